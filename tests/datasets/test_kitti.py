# SPDX-License-Identifier: Apache-2.0
"""KITTI objects: what is read, geometry against the formulas of the devkit, and broken files."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc.datasets import KITTIFrustums, KITTIObject, collate
from pcperc.datasets.kitti_files import CLASSES, format_objects, read_calibration, read_objects
from pcperc.geometry import box_corners, transform_points
from pcperc.geometry.kitti import (
    KITTICalibration,
    alpha_of,
    boxes_from_kitti,
    boxes_on_image,
    boxes_to_kitti,
    lidar_to_upright,
    upright_to_lidar,
)
from pcperc.ops import points_in_boxes_mask
from tests import kitti_root as tiny


@pytest.fixture
def root(tmp_path):
    return tiny.write_root(tmp_path / "kitti")


def devkit_corners(size, place, turn) -> np.ndarray:
    """(8, 3) corners in the camera's frame by the devkit's computeBox3D."""
    height, width, length = size
    rotation = np.array([[math.cos(turn), 0, math.sin(turn)], [0, 1, 0], [-math.sin(turn), 0, math.cos(turn)]])
    x = np.array([1, 1, -1, -1, 1, 1, -1, -1]) * length / 2
    y = np.array([0, 0, 0, 0, -1, -1, -1, -1]) * height
    z = np.array([1, -1, -1, 1, 1, -1, -1, 1]) * width / 2
    return (rotation @ np.stack([x, y, z])).T + place


def same_points(one: np.ndarray, other: np.ndarray, atol=1e-6) -> bool:
    gaps = np.linalg.norm(one[:, None] - other[None], axis=2)
    return bool((gaps.min(0) < atol).all() and (gaps.min(1) < atol).all())


def test_a_sample_has_what_the_files_have(root):
    data = KITTIObject(root=root, split="sim_train", test_mode=True)
    assert data.tokens == ["000000", "000001", "000002"]
    assert data.metainfo["classes"] == CLASSES and data.metainfo["frames"] == tuple(data.tokens)
    sample = data[0]
    assert sample["points"].shape == (440, 4) and sample["image_size"] == tiny.SIZE
    assert sample["labels"].tolist() == [0, 1]  # the van and DontCare are no boxes
    assert sample["objects"].types.tolist() == ["Car", "Pedestrian", "Van"]
    assert sample["boxes"].shape == (2, 9) and np.isnan(sample["boxes"][:, 7:]).all()
    inside = points_in_boxes_mask(*map(torch.from_numpy, (sample["points"], sample["boxes"][:, :7])))
    assert inside[:80, 0].all() and inside[80:160, 1].all()  # the points that were laid into the objects
    for box, (_, _, _, size, place, turn) in zip(sample["boxes"], tiny.OBJECTS["000000"], strict=False):
        wanted = tiny.to_lidar(devkit_corners(size, place, turn))
        # The LiDAR is tilted by 0.6 degrees against the frame in which boxes stand upright.
        assert same_points(box_corners(box[None, :7].astype(np.float64))[0], wanted, atol=0.05)
    assert data[2]["boxes"].shape == (0, 9) and len(data[2]["objects"]) == 0
    batch = collate([data[0], data[1]])
    assert batch["samples"][1]["labels"].tolist() == [2] and "calibration" in batch["samples"][0]


def test_splits(root):
    assert len(KITTIObject(root=root, split="training")) == 3
    (root / "testing" / "velodyne").mkdir(parents=True)
    with pytest.raises(ValueError, match="split testing of .* must have frames"):
        KITTIObject(root=root, split="testing")
    with pytest.raises(
        FileNotFoundError, match=r"split 'val' is missing \(known: sim_train, sim_val, testing, training\)"
    ):
        KITTIObject(root=root, split="val")
    with pytest.raises(ValueError, match="classes must be of Car, Pedestrian, Cyclist, got 'Van'"):
        KITTIObject(root=root, split="sim_val", classes=("Car", "Van"))
    with pytest.raises(FileNotFoundError, match="velodyne of split training is missing"):
        KITTIObject(root=root / "testing", split="training")


ANGLE = st.floats(-3.14, 3.14)
PLACE = st.tuples(st.floats(-20, 20), st.floats(-2, 3), st.floats(-5, 40))
SIZE = st.tuples(st.floats(0.3, 4), st.floats(0.3, 3), st.floats(0.3, 12))


@settings(max_examples=60, deadline=None)
@given(SIZE, PLACE, ANGLE)
def test_boxes_of_labels_are_the_devkits_and_come_back(size, place, turn):
    boxes = boxes_from_kitti(np.array([size]), np.array([place]), np.array([turn]))
    x, y, z = devkit_corners(size, place, turn).T
    assert same_points(box_corners(boxes)[0], np.stack([z, -x, -y], 1))
    front = box_corners(boxes)[0, [0, 3]].mean(0) - boxes[0, :3]
    heading = np.array([-math.sin(turn), -math.cos(turn)])  # the devkit's +x of the object, forward and left
    np.testing.assert_allclose(front[:2] / np.linalg.norm(front[:2]), heading, atol=1e-6)
    sizes, places, turns = boxes_to_kitti(boxes)
    np.testing.assert_allclose(sizes[0], size)
    np.testing.assert_allclose(places[0], place, atol=1e-9)
    assert math.remainder(turns[0] - turn, 2 * math.pi) == pytest.approx(0, abs=1e-9)
    rect = np.eye(4)
    rect[:3, :3] = tiny.rect()
    calibration = KITTICalibration(tiny.PROJECTION, rect @ np.vstack([tiny.LIDAR2CAMERA0, [0, 0, 0, 1]]))
    back = lidar_to_upright(upright_to_lidar(boxes, calibration), calibration)
    np.testing.assert_allclose(back[:, :6], boxes[:, :6], atol=1e-9)
    assert math.remainder(back[0, 6] - boxes[0, 6], 2 * math.pi) == pytest.approx(0, abs=1e-9)


def test_projection_and_cameras(root):
    calibration = read_calibration(root / "training/calib/000000.txt")
    rng = np.random.default_rng(0)
    xyz = rng.uniform([3, -5, -2], [20, 5, 2], (20, 3))
    rect = tiny.rect() @ (tiny.LIDAR2CAMERA0[:, :3] @ xyz.T + tiny.LIDAR2CAMERA0[:, 3:])
    image = tiny.PROJECTION @ np.vstack([rect, np.ones(20)])
    pixels, depth = calibration.project(xyz)
    np.testing.assert_allclose(pixels, (image[:2] / image[2]).T, atol=1e-6)
    np.testing.assert_allclose(depth, image[2], atol=1e-9)
    camera = transform_points(xyz, calibration.lidar2camera) @ calibration.camera2image.T
    np.testing.assert_allclose(camera[:, :2] / camera[:, 2:], pixels, atol=1e-6)


def test_rectangles_on_the_image(root):
    calibration = read_calibration(root / "training/calib/000000.txt")
    data = KITTIObject(root=root, split="sim_train")
    boxes = data[0]["objects"].boxes()
    rectangles = boxes_on_image(boxes, calibration)
    for box, rectangle in zip(boxes, rectangles, strict=True):
        pixels, _ = calibration.project_upright(box_corners(box[None])[0])
        np.testing.assert_allclose(rectangle, [*pixels.min(0), *pixels.max(0)])
    objects = data[0]["objects"]
    np.testing.assert_allclose(alpha_of(boxes), objects.alpha, atol=0.01)  # the file has two digits
    behind = boxes.copy()
    behind[:, 0] = [-30.0, 1.0, 20.0]  # behind, across the image plane, before
    behind[1, 3:6] = 4.0
    rectangles = boxes_on_image(behind, calibration)
    assert np.isnan(rectangles[0]).all() and np.isfinite(rectangles[1:]).all()
    assert rectangles[1, 2] - rectangles[1, 0] > 1000  # it fills the picture and more


def test_label_files_read_back(root, tmp_path):
    objects = read_objects(root / "training/label_2/000000.txt")
    (tmp_path / "again.txt").write_text(format_objects(objects))
    again = read_objects(tmp_path / "again.txt")
    for name, values in objects.__dict__.items():
        np.testing.assert_array_equal(getattr(again, name), values, err_msg=name)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Boat 0 0 0 0 0 9 9 1 1 1 0 1 9 0", "line 5: must be a type of Car"),
        ("Car 0 0 0 0 0 9 9 1 1 1 0 1 9", "line 5: must be a type of Car, .* and 14 or 15 numbers"),
        ("Car 0 0 0 0 0 9 9 1 1 1 0 1 nine 0", "line 5: must have numbers"),
        ("Car 0 0 0 0 0 9 9 1 1 1 0 1 nan 0", "line 5: must have finite numbers"),
        ("Car 0 0 0 9 0 9 9 1 1 1 0 1 9 0", "line 5: the 2D box must have area"),
        ("Car 0 0 0 0 0 9 9 1 0 1 0 1 9 0", "line 5: .*sizes must be > 0"),
    ],
)
def test_broken_labels_are_named(root, row, message):
    path = root / "training/label_2/000000.txt"
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(ValueError, match=message):
        KITTIFrustums(root=root, split="training")


def test_broken_calibration_image_and_scan(root):
    data = KITTIObject(root=root, split="training", test_mode=True)
    (root / "training/image_2/000000.png").write_bytes(b"JPEG")
    with pytest.raises(ValueError, match="000000.png must be a PNG"):
        data[0]
    (root / "training/calib/000001.txt").write_text("P2: 1 2 3\n")
    with pytest.raises(ValueError, match="000001.txt must have a row P2 of 12 numbers"):
        data[1]
    (root / "training/calib/000001.txt").write_text(tiny.calibration_text().replace("3.000000000000e+02", "0"))
    with pytest.raises(ValueError, match="P2 must be finite and invertible"):
        data[1]
    (root / "training/velodyne/000002.bin").write_bytes(b"12345")
    with pytest.raises(ValueError, match="must hold float32 rows of 4"):
        data[2]
