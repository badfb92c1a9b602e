# SPDX-License-Identifier: Apache-2.0
"""Arrow's files: what is written is read, whole or not at all, and what is refused."""

import sys

import numpy as np
import pytest

from pcperc.tables import read_metadata, read_table, stack_columns, whole_numbers, write_table


@pytest.mark.parametrize("ending", [".feather", ".parquet"])
def test_columns_go_to_a_file_and_back(tmp_path, ending):
    pytest.importorskip("pyarrow")
    columns = {"id": np.arange(3), "half": np.array([1.5, -2, 0], np.float16), "name": ["a", "b", "ü"]}
    columns["rows"] = [np.array([1.0, 2.0]), None, np.zeros(0)]
    path = write_table(tmp_path / "folder" / f"table{ending}", columns)
    table = read_table(path, ["rows", "name", "id", "half"])
    np.testing.assert_array_equal(table["id"], [0, 1, 2])
    assert table["half"].dtype == np.float16 and table["name"].tolist() == ["a", "b", "ü"]
    np.testing.assert_array_equal(table["rows"][0], [1, 2])
    assert table["rows"][1] is None and len(table["rows"][2]) == 0
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    with pytest.raises(ValueError, match=f"table{ending} must have the column 'other', got id, half, name, rows"):
        read_table(path, ["id", "other"])
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match=f"table{ending} cannot be read, it is truncated or something else"):
        read_table(path, ["id"])


def test_rows_of_one_value(tmp_path):
    pytest.importorskip("pyarrow")
    path = write_table(tmp_path / "t.parquet", {"time": [1, 2, 1], "value": [10, 20, 30]})
    assert read_table(path, ["value"], where={"time": 1})["value"].tolist() == [10, 30]
    assert read_table(path, ["value"], where={"time": 9})["value"].tolist() == []


def test_places_that_lead_out_of_a_damaged_file(tmp_path):
    """pyarrow reads such a file; looking at its texts then ended the process."""
    arrow = pytest.importorskip("pyarrow")
    path = write_table(tmp_path / "t.feather", {"name": ["one", "two", "three"]})
    arrow.feather.write_feather(arrow.table({"name": ["one", "two", "three"]}), str(path), compression="uncompressed")
    content = path.read_bytes()
    offsets = np.array([0, 3, 6, 11], np.int32).tobytes()
    assert content.count(offsets) == 1
    path.write_bytes(content.replace(offsets, np.array([0, 3, 6 + 2**29, 11], np.int32).tobytes()))
    with pytest.raises(
        ValueError, match="t.feather cannot be read, it is truncated or something else: .*out of bounds"
    ):
        read_table(path, ["name"])


def test_numbers_that_are_missing(tmp_path):
    pytest.importorskip("pyarrow")
    path = write_table(
        tmp_path / "t.parquet", {"x": [1.0, None, 3], "n": [1, None, 2], "y": [1, 2, 3], "s": list("abc")}
    )
    table = read_table(path, ["x", "n", "y", "s"])
    np.testing.assert_array_equal(stack_columns(path, table, ["y", "y"]), [[1, 1], [2, 2], [3, 3]])
    with pytest.raises(ValueError, match="t.parquet: column 'x' must hold finite numbers, got nan in row 1"):
        stack_columns(path, table, ["y", "x"])
    with pytest.raises(ValueError, match="t.parquet: column 's' must hold numbers, got object"):
        stack_columns(path, table, ["s"])
    with pytest.raises(ValueError, match="t.parquet: column 'n' must hold whole numbers in every row, got float64"):
        whole_numbers(path, table, "n")


def test_types_and_metadata_of_a_schema(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    schema = arrow.schema([("names", arrow.list_(arrow.string())), ("x", arrow.float32())], {"how": "made up, ü"})
    path = write_table(tmp_path / "t.parquet", {"x": [], "names": []}, schema=schema)
    assert read_metadata(path) == {"how": "made up, ü"} and read_table(path, ["x"])["x"].dtype == np.float32
    assert read_metadata(write_table(tmp_path / "plain.parquet", {"x": [1]})) == {}
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="t.parquet cannot be read, it is truncated or something else"):
        read_metadata(path)
    with pytest.raises(FileNotFoundError, match="none.parquet is missing"):
        read_metadata(tmp_path / "none.parquet")


def test_what_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="t.csv must end in .feather or .parquet"):
        read_table(tmp_path / "t.csv", ["a"])
    with pytest.raises(ValueError, match="t.csv must end in .feather or .parquet"):
        write_table(tmp_path / "t.csv", {"a": [1]})
    with pytest.raises(FileNotFoundError, match="t.feather is missing"):
        read_table(tmp_path / "t.feather", ["a"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.feather").touch()
    with pytest.raises(ImportError, match=r"pyarrow must be installed .* \(pip install 'pcperc\[tables\]'\)"):
        read_table(tmp_path / "t.feather", ["a"])
