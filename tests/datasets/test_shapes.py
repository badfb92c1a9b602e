# SPDX-License-Identifier: Apache-2.0
"""ShapeNet-Part and ModelNet40: what is read, and what is said of broken files."""

import json

import numpy as np
import pytest
import torch

from pcperc.datasets import ModelNet40, ShapeNetPart, collate
from pcperc.datasets.modelnet40 import CATEGORIES as MODELNET_CATEGORIES
from pcperc.datasets.shapenet_part_labels import CATEGORIES, PARTS
from tests import shapenet_root as tiny


@pytest.fixture
def root(tmp_path):
    return tiny.write_root(tmp_path / "shapenet")


def test_a_sample_has_what_the_file_has(root):
    data = ShapeNetPart(root=root, split="train", test_mode=True)
    assert data.tokens == ["02954340/shape0", "02954340/shape1", "03797390/shape0"]
    sample, table = data[2], tiny.shape_of(3, (36, 37))
    assert (sample["sample_token"], sample["category"]) == ("03797390/shape0", CATEGORIES.index("Mug"))
    assert sample["points"].dtype == np.float32 and sample["point_labels"].dtype == np.int64
    np.testing.assert_array_equal(sample["points"], table[:, :6].astype(np.float32))
    np.testing.assert_array_equal(sample["point_labels"], table[:, 6])
    assert data.metainfo["parts"] is PARTS and data.metainfo["split"] == "train"
    batch = collate([data[0], data[2]])
    assert [len(points) for points in batch["inputs"]["points"]] == [40, 40]
    assert batch["samples"][1]["category"] == 11 and isinstance(batch["samples"][0]["point_labels"], torch.Tensor)


def test_splits_and_categories(root):
    assert len(ShapeNetPart(root=root, split="trainval")) == len(ShapeNetPart(root=root, split="all")) == 6
    mugs = ShapeNetPart(root=root, split="all", categories=("Mug",))
    assert mugs.tokens == ["03797390/shape0", "03797390/shape1"] and mugs[0]["category"] == 11
    with pytest.raises(ValueError, match="split test of .* must have shapes"):
        ShapeNetPart(root=root, split="test")
    with pytest.raises(FileNotFoundError, match=r"split 'sim_val' is missing \(known: test, train, val, all\)"):
        ShapeNetPart(root=root, split="sim_val")
    with pytest.raises(ValueError, match="categories must be of Airplane, .* got 'Boat'"):
        ShapeNetPart(root=root, split="train", categories=("Mug", "Boat"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("nan 0 0 0 0 1 6", r"shape0.txt must have finite numbers, got \[nan"),
        ("0 0 0 0 0 1 36", "parts of a Cap must be 6 to 7, got 36"),
        ("0 0 0 0 0 1 6.5", "parts of a Cap must be 6 to 7, got 6.5"),
        ("0 0 0 0 1.02 0 6", r"shape0.txt must have normals nx, ny, nz of length 1, got \[0.0, 1.02.* in row 40"),
        ("0 0 0 255 0 90 6", "of length 270.416, in row 40"),
        ("0 0 0 1e200 0 1e200 6", "of length inf, in row 40"),
        ("0 0 0 6", r"must hold rows of 7 numbers"),
        ("0 0 0 0 0 one 6", r"must hold rows of 7 numbers"),
    ],
)
def test_broken_shapes_are_named(root, row, message):
    path = root / "02954340/shape0.txt"
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(ValueError, match=message):
        ShapeNetPart(root=root, split="train")[0]


def test_short_normals_stay_as_they_are(root):
    path = root / "02954340/shape0.txt"
    path.write_text("0 0 0 0 0 0 6\n0 0 1 0.3 0 0 6\n0 1 0 0 0 1.0001 7\n")
    normals = ShapeNetPart(root=root, split="train")[0]["points"][:, 3:]
    np.testing.assert_array_equal(normals, np.array([[0, 0, 0], [0.3, 0, 0], [0, 0, 1.0001]], np.float32))


def test_rows_for_columns_are_named(root):
    path = root / "02954340/shape0.txt"
    np.savetxt(path, np.loadtxt(path).T)
    with pytest.raises(
        ValueError,
        match=r"rows of 7 numbers \(x, y, z, nx, ny, nz, part\), got 40 in a row: rows and columns are exchanged",
    ):
        ShapeNetPart(root=root, split="train")[0]


def test_missing_empty_and_small_shapes(root):
    data = ShapeNetPart(root=root, split="train", test_mode=True)
    path = root / "02954340/shape0.txt"
    path.write_text("0.5 0.5 0.5 0 0 1 6.000000\n" * 3)  # three points, all equal: a sample like every other
    assert data[0]["points"].shape == (3, 6) and data[0]["point_labels"].tolist() == [6, 6, 6]
    path.write_text("")
    with pytest.raises(ValueError, match="must have at least one point, but is empty"):
        data[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match="shape0.txt is missing, though the data set lists it"):
        data[0]


def test_broken_lists_are_named(root):
    path = root / "train_test_split/shuffled_train_file_list.json"
    for text, message in (
        ("[", "must be JSON"),
        ('{"a": 1}', "must be a list of names"),
        ('["shape_data/00000000/x"]', "names an unknown category 00000000"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            ShapeNetPart(root=root, split="train")


def test_real_shapes(realdata, tmp_path):
    data = ShapeNetPart(root=realdata / "shapenet_part", split="all")
    assert [len(data[index]["points"]) for index in range(3)] == [2598, 2475, 2751]
    assert [sorted(set(data[index]["point_labels"].tolist())) for index in range(3)] == [[45], [45], [47, 48]]
    for index in range(3):  # files hold 5 digits, and a few normals of length 0
        length = np.linalg.norm(data[index]["points"][:, 3:], axis=1)
        assert np.median(length) == pytest.approx(1, abs=1e-3)
    caps = ShapeNetPart(root=tiny.write_caps(tmp_path, realdata), split="val", categories=("Cap",))
    assert [len(caps[index]["points"]) for index in range(5)] == [2744, 2719, 2425, 2579, 2792]
    assert json.loads((tmp_path / "train_test_split/shuffled_val_file_list.json").read_text())[0].endswith("cap0")


def test_modelnet40(tmp_path):
    (tmp_path / "modelnet40_test.txt").write_text("night_stand_0001\nxbox_0002\n")
    rng = np.random.default_rng(0)
    table = rng.uniform(-0.5, 0.5, (10, 6)).round(6)
    for name in ("night_stand/night_stand_0001", "xbox/xbox_0002"):
        path = tmp_path / f"{name}.txt"
        path.parent.mkdir()
        path.write_text("".join(",".join(f"{value:f}" for value in row) + "\n" for row in table))
    data = ModelNet40(root=tmp_path, split="test", test_mode=True)
    assert len(MODELNET_CATEGORIES) == 40 and [data[i]["category"] for i in range(2)] == [23, 39]
    np.testing.assert_array_equal(data[0]["points"], table.astype(np.float32))
    (tmp_path / "modelnet40_test.txt").write_text("boat_0001\n")
    with pytest.raises(ValueError, match="names an unknown category in 'boat_0001'"):
        ModelNet40(root=tmp_path, split="test")
    with pytest.raises(FileNotFoundError, match="modelnet40_train.txt is missing"):
        ModelNet40(root=tmp_path, split="train")
