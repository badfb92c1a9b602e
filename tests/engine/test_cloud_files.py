# SPDX-License-Identifier: Apache-2.0
"""Files of shapes and rooms for a network of points: how each kind is read, and which are refused."""

from dataclasses import replace

import numpy as np
import pytest

from pcperc.engine.cloud_inference import check_category, cloud_sample
from pcperc.engine.config import ConfigError
from pcperc.engine.inference import InferOptions, infer
from pcperc.engine.testing import TestOptions, test


@pytest.mark.parametrize(
    ("kind", "columns"), [("ShapeNetPart", "x, y, z, nx, ny, nz"), ("S3DIS", "x, y, z, red, green, blue")]
)
def test_a_shape_or_room_must_have_a_point(tmp_path, kind, columns):
    np.save(tmp_path / "empty.npy", np.zeros((0, 6)))
    (tmp_path / "empty.txt").write_text("")
    for name in ("empty.npy", "empty.txt"):
        with pytest.raises(ValueError, match=f"{name}: must hold a row of {columns} or more, but holds no point$"):
            cloud_sample(tmp_path / name, {"type": kind}, "Mug")


def test_files_of_rooms_become_the_columns_of_rooms(tmp_path):
    rows = np.array([[1.0, 2, 3, 0, 127.5, 255], [3, 6, 5, 255, 255, 255]])
    np.save(tmp_path / "room.npy", rows)
    points = cloud_sample(tmp_path / "room.npy", {"type": "S3DIS"}, None)["points"]
    expected = [[-1, -2, 0, 0, 0.5, 1, 0, 0, 0], [1, 2, 2, 1, 1, 1, 1, 1, 1]]
    np.testing.assert_allclose(points, np.array(expected, np.float32))


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian"])
def test_ply_files_are_the_same_as_others(tmp_path, form):
    rows = np.array([[1.0, 2, 3, 0, 128, 255], [3, 6, 5, 255, 255, 255]])
    np.savetxt(tmp_path / "room.txt", rows)
    names = [("x", "f8"), ("y", "f8"), ("z", "f8"), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("alpha", "u1")]
    types = {"f8": "double", "u1": "uchar"}
    lines = ["ply", f"format {form} 1.0", "element vertex 2", *(f"property {types[t]} {name}" for name, t in names)]
    alpha = np.array([tuple([*row, 255]) for row in rows], names)
    body = alpha.tobytes() if form != "ascii" else "\n".join(" ".join(map(str, row)) for row in alpha.tolist()).encode()
    (tmp_path / "room.ply").write_bytes("\n".join([*lines, "end_header", ""]).encode() + body)
    text, ply = (cloud_sample(tmp_path / f"room.{end}", {"type": "S3DIS"}, None)["points"] for end in ("txt", "ply"))
    np.testing.assert_array_equal(ply, text)
    with pytest.raises(ValueError, match=r"room.ply must have a property nx, got \['alpha', 'blue', "):
        cloud_sample(tmp_path / "room.ply", {"type": "ModelNet40"}, None)


def test_a_bad_file_does_not_stop_the_others(blocks, tmp_path, capsys):
    _, config, checkpoint = blocks
    rows = np.random.default_rng(0).uniform(0, 3, (3, 200, 6)) * (1, 1, 1, 80, 80, 80)
    rows[1, 5, 2] = np.nan
    files = [tmp_path / f"{name}.npy" for name in "abc"]
    for file, room in zip(files, rows, strict=True):
        np.save(file, room)
    options = InferOptions(config, checkpoint, files, out=tmp_path / "out", device="cpu")
    with pytest.raises(ValueError, match=rf"^1 of 3 files failed, as said above: {files[1]}$"):
        infer(options)
    printed = capsys.readouterr().out
    assert f"{files[1]} failed: cloud {files[1]} must have finite numbers" in printed
    found = [f"{tmp_path}/out/{name}.npy.json: 200 points" for name in "ac"]  # of each file, not the last one alone
    assert [line for line in printed.splitlines() if line.startswith(f"{tmp_path}/out/")] == found
    written = sorted(path.name for path in (tmp_path / "out").glob("*"))
    assert written == ["a.npy.json", "a.npy.label", "c.npy.json", "c.npy.label"]
    with pytest.raises(ValueError, match="^cloud .*b.npy must have finite numbers"):
        infer(replace(options, files=files[1:2]))


def test_says_what_is_wrong(parts, tmp_path):
    with pytest.raises(ConfigError, match="--category: the checkpoint is told nothing .* got 'Mug'"):
        check_category({"type": "S3DIS"}, "Mug")
    assert check_category({"type": "ShapeNetPart"}, "laptop") == "Laptop"
    with pytest.raises(ConfigError, match="one of Car, Cyclist; got 'Mug'"):
        check_category({"type": "KITTIFrustums", "classes": ("Car", "Cyclist")}, "Mug")
    np.save(tmp_path / "few.npy", np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"few.npy: must hold rows of x, y, z, nx, ny, nz, got \(3, 4\) float64"):
        cloud_sample(tmp_path / "few.npy", {"type": "ShapeNetPart"}, "Mug")
    np.save(tmp_path / "turned.npy", np.zeros((7, 300)))
    np.savetxt(tmp_path / "turned.txt", np.zeros((7, 300)))
    for name in ("turned.npy", "turned.txt"):
        message = rf"{name} must hold rows of x, y, z, nx, ny, nz, one a point, got 7 rows of 300 numbers: rows and col"
        with pytest.raises(ValueError, match=message):
            cloud_sample(tmp_path / name, {"type": "ShapeNetPart"}, "Mug")
    np.save(tmp_path / "colours.npy", np.full((3, 6), 90.0))
    with pytest.raises(ValueError, match=r"colours.npy must have normals .* of length 155.885, in row 0"):
        cloud_sample(tmp_path / "colours.npy", {"type": "ModelNet40"}, None)
    np.save(tmp_path / "nan.npy", np.full((3, 6), np.nan))
    with pytest.raises(ValueError, match="nan.npy must have finite numbers"):
        cloud_sample(tmp_path / "nan.npy", {"type": "ShapeNetPart"}, "Mug")
    np.save(tmp_path / "dark.npy", np.full((3, 6), -1.0))
    with pytest.raises(ValueError, match="dark.npy must have colours of 0 to 255, got .* in row 0"):
        cloud_sample(tmp_path / "dark.npy", {"type": "S3DIS"}, None)
    np.savetxt(tmp_path / "parts.txt", np.linspace(0, 0.9, 18).reshape(3, 6))
    message = "parts.txt must have colours of 0 to 255, got some of 0 to 1: the largest is 0.9"
    with pytest.raises(ValueError, match=message):
        cloud_sample(tmp_path / "parts.txt", {"type": "S3DIS"}, None)
    np.save(tmp_path / "cm.npy", [[0, 0, 0, 9, 9, 9], [420, 300.5, 260, 9, 9, 9]])
    with pytest.raises(ValueError, match="cm.npy must be in metres, at most 200 along an axis, got 420 x 300.5 x 260"):
        cloud_sample(tmp_path / "cm.npy", {"type": "S3DIS"}, None)
    np.save(tmp_path / "black.npy", np.zeros((3, 6)))
    assert not cloud_sample(tmp_path / "black.npy", {"type": "S3DIS"}, None)["points"][:, 3:6].any()
    with pytest.raises(ValueError, match="shape.obj: must be one of .txt, .npy, .ply, rows of x, y"):
        cloud_sample(tmp_path / "shape.obj", {"type": "ModelNet40"}, None)
    for text, message in (
        (
            "1 2 3 0 0 1\n\n1 2 3 0 0\n",
            r"ragged.txt must hold rows of 6 numbers \(x, y, z, nx, ny, nz\), got 5 in row 1$",
        ),
        (
            "1 2 3\n4 5 6\n",
            r"ragged.txt must hold rows of 6 numbers \(x, y, z, nx, ny, nz\), got 3 in a row$",
        ),
        (
            "1,2,3,0,0,1\n",
            r"\(x, y, z, nx, ny, nz\), got 1 in row 0: they are to be separated by spaces, not by commas$",
        ),
        ("1, 2, 3, 0, 0, 1\n", "got '1,' in row 0: they are to be separated by spaces, not by commas$"),
        ("1 2 3 0 0 1 5\n1 2\n", r"rows of 7 numbers \(x, y, z, nx, ny, nz, ...\), got 2 in row 1$"),
        (
            "x y z nx ny nz\n1 2 3 0 0 1\n",
            r"ragged.txt must hold rows of 6 numbers \(x, y, z, nx, ny, nz\), got 'x' in row 0$",
        ),
    ):
        (tmp_path / "ragged.txt").write_text(text)
        with pytest.raises(ValueError, match=message):
            cloud_sample(tmp_path / "ragged.txt", {"type": "ModelNet40"}, None)
    (tmp_path / "text.npy").write_text("1 2 3\n")
    with pytest.raises(ValueError, match="text.npy cannot be read as npy: it is another kind of file$"):
        cloud_sample(tmp_path / "text.npy", {"type": "ModelNet40"}, None)
    root, config, checkpoint = parts
    options = InferOptions(config, checkpoint, [tmp_path / "nan.npy"], category="mug", device="cpu")
    for name, value, message in (
        ("columns", 5, "--columns: is for sweeps of a LiDAR, and files are of shapes, rooms or frustums"),
        ("intensity_scale", 255.0, "--intensity-scale: is for sweeps of a LiDAR"),
        ("min_score", 0.5, "--min-score: is for boxes, and .* finds none"),
    ):
        with pytest.raises(ConfigError, match=message):
            infer(replace(options, **{name: value}))
    with pytest.raises(FileNotFoundError, match=f"^{tmp_path}: is a folder, name its files$"):
        infer(replace(options, files=[tmp_path]))
    with pytest.raises(ConfigError, match="--format-only is for segmentation.*ShapeNetPartMetric"):
        test(TestOptions(config, checkpoint, work_dir=tmp_path, device="cpu", format_only=True))
