# SPDX-License-Identifier: Apache-2.0
"""Raw point files and images with a calibration: what is read, and what is refused."""

import json
import math
import re

import cv2
import numpy as np
import pytest

from pcperc.engine.raw_files import read_cameras, read_points, row_by_row
from tests.damage import damage

POINTS = np.arange(20, dtype=np.float32).reshape(4, 5)


def damaged_npz(path):
    np.savez_compressed(path, points=np.random.default_rng(0).integers(0, 100, (300, 4)))
    damage(path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.pcd.bin", POINTS, np.c_[POINTS[:, :4], np.zeros(4)]),
        ("a.bin", POINTS[:, :4], np.c_[POINTS[:, :4], np.zeros(4)]),
        ("a.npy", POINTS, POINTS),
        ("a.npy", POINTS[:, :3], np.c_[POINTS[:, :3], np.zeros((4, 2))]),
        ("a.npz", POINTS.astype(np.float64), POINTS),
    ],
)
def test_kinds_of_files(tmp_path, name, content, expected):
    path = tmp_path / name
    if name.endswith(".bin"):
        content.astype("<f4").tofile(path)
    elif name.endswith(".npy"):
        np.save(path, content)
    else:
        np.savez(path, other=np.zeros(3), points=content)
    points = read_points(path)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, expected)
    np.testing.assert_array_equal(read_points(path, intensity_scale=2.0)[:, 3], 2 * expected[:, 3])


def test_columns_of_a_plain_bin(tmp_path):
    POINTS.tofile(tmp_path / "a.bin")
    assert read_points(tmp_path / "a.bin").shape == (5, 5), "80 bytes are five rows of four"
    assert read_points(tmp_path / "a.bin", columns=5).shape == (4, 5)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("no.bin", lambda p: None, "no such point file"),
        ("a.ply", lambda p: p.touch(), "must be one of .pcd.bin, .bin, .npy, .npz"),
        (
            "a.bin",
            lambda p: p.write_bytes(b"x" * 20),
            "must hold float32 rows of 4 (16 bytes each), got 20 bytes; --columns",
        ),
        ("a.bin", lambda p: p.touch(), "must hold float32 rows of 4 (16 bytes each), got 0 bytes"),
        ("a.pcd.bin", lambda p: p.write_bytes(b"x" * 19), "must hold float32 rows of 5 (20 bytes each), got 19 bytes"),
        ("a.npy", lambda p: p.write_bytes(b"\x93NUMPY"), "not a readable array of numbers"),
        ("a.npz", lambda p: p.write_bytes(b"PK\x03\x04 cut off"), "not a readable array of numbers"),
        ("a.npz", damaged_npz, "not a readable array of numbers (Error -3 while decompressing"),
        (
            "a.npy",
            lambda p: np.save(p, np.zeros((3, 2))),
            "must hold (N, 3), (N, 4) or (N, 5) points with N > 0, got (3, 2)",
        ),
        ("a.npy", lambda p: np.save(p, np.zeros(4)), "must hold (N, 3), (N, 4) or (N, 5) numbers, got (4,) float64"),
        ("a.npy", lambda p: np.save(p, np.array([[1, np.nan, 2]])), "must be finite, got NaN or infinity in 1 points"),
        (
            "a.npy",
            lambda p: np.save(p, np.array([{}]), allow_pickle=True),
            "not a readable array of numbers (it holds other things than numbers)",
        ),
        ("a.npz", lambda p: np.savez(p), "must hold (N, 3), (N, 4) or (N, 5) points with N > 0, got (0, 3)"),
    ],
)
def test_bad_point_files(tmp_path, name, make, message):
    path = tmp_path / name
    make(path)
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)) as error:
        read_points(path)
    assert str(path) in str(error.value)


def test_cameras(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 6, 3), (1, 2, 3), np.uint8))
    camera = {"image": "a.png", "lidar2camera": np.eye(4).tolist(), "camera2image": np.eye(3).tolist()}
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"cameras": [camera, camera]}))
    sample = read_cameras(path)
    assert sample["images"][0].shape == (4, 6, 3) and sample["images"][0][0, 0].tolist() == [3, 2, 1]
    assert sample["lidar2camera"].shape == (2, 4, 4) and sample["image_aug"].shape == (2, 3, 3)


LIDAR2CAMERA = "camera 0: 'lidar2camera' must be 4 x 4 finite numbers that can be inverted"


def camera_file(lidar2camera: str) -> str:
    return f'{{"cameras": [{{"image": "a.png", "lidar2camera": {lidar2camera}}}]}}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must be JSON with a list under 'cameras'"),
        ('{"camera": []}', "must be JSON with a list under 'cameras'"),
        ('{"cameras": []}', "'cameras' must be a list of at least one camera, got []"),
        ('{"cameras": [5]}', "camera 0: must be an object with 'image', the name of a file"),
        ('{"cameras": [{"image": 7}]}', "camera 0: must be an object with 'image', the name of a file"),
        ('{"cameras": [{"image": "a.png"}]}', f"{LIDAR2CAMERA}, got None"),
        (camera_file("[[1, 2]]"), f"{LIDAR2CAMERA}, got (1, 2)"),
        (camera_file("[[1, 2], [3]]"), f"{LIDAR2CAMERA}, got [[1, 2], [3]]"),
        (camera_file('"abc"'), f"{LIDAR2CAMERA}, got abc"),
        (camera_file(json.dumps([[0.0] * 4] * 4)), f"{LIDAR2CAMERA}, got [[0.0"),
        (camera_file(json.dumps([[math.nan] * 4] * 4)), f"{LIDAR2CAMERA}, got [[nan"),
    ],
)
def test_bad_calibrations(tmp_path, content, message):
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
        read_cameras(path)


def test_a_missing_image_is_named_with_its_calibration(tmp_path):
    eye = np.eye(4).tolist()
    row = {"image": "gone.png", "lidar2camera": eye, "camera2image": np.eye(3).tolist()}
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"cameras": [row]}))
    message = f"{path}: camera 0: image {tmp_path / 'gone.png'} is missing; paths are relative to this file"
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        read_cameras(path)


def test_json_row_by_row():
    for rows in ([], [{"x": [1, 2]}, {"x": [3]}]):
        assert json.loads(row_by_row({"a": 1, "b": None}, {"rows": rows})) == {"a": 1, "b": None, "rows": rows}
    assert row_by_row({}, {"rows": [{}, {}]}).count("\n") == 6
