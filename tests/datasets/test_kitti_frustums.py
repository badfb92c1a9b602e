# SPDX-License-Identifier: Apache-2.0
"""Frustums of KITTI: the points that a camera sees in a 2D box, by labels and by detections."""

import math

import numpy as np
import pytest
import torch

from pcperc.datasets import KITTIFrustums, KITTIObject, SampleKey, collate
from pcperc.datasets.kitti_files import CLASSES, read_detections_2d
from pcperc.datasets.kitti_frustums import in_frustum
from pcperc.geometry import transform_boxes, transform_points
from pcperc.geometry.kitti import alpha_of, boxes_from_kitti, boxes_on_image, lidar_to_upright
from pcperc.ops import points_in_boxes_mask
from tests import kitti_root as tiny


@pytest.fixture
def root(tmp_path):
    return tiny.write_root(tmp_path / "kitti")


def test_frustums_hold_what_the_camera_sees_in_the_box(root):
    data = KITTIFrustums(root=root, split="sim_train", test_mode=True)
    assert data.tokens == ["000000/0", "000000/1", "000001/0"]
    for index, (frame, row) in enumerate([("000000", 0), ("000000", 1), ("000001", 0)]):
        sample, (kind, *_, size, place, turn) = data[index], tiny.OBJECTS[frame][row]
        assert sample["class_index"] == CLASSES.index(kind) and sample["frame"] == frame
        scan = np.fromfile(root / f"training/velodyne/{frame}.bin", "<f4").reshape(-1, 4)
        rect = tiny.rect() @ (tiny.LIDAR2CAMERA0[:, :3] @ scan[:, :3].T + tiny.LIDAR2CAMERA0[:, 3:])
        image = tiny.PROJECTION @ np.vstack([rect, np.ones(len(scan))])
        u, v, (left, top, right, bottom) = *(image[:2] / image[2]), sample["box_2d"]
        kept = (u >= left) & (u <= right) & (v >= top) & (v <= bottom) & (image[2] > 0) & (scan[:, 0] > 2)
        assert len(sample["points"]) == kept.sum() and sample["point_labels"].sum() >= 75
        np.testing.assert_array_equal(sample["points"][:, 3], scan[kept, 3])
        # Back in the LiDAR's frame, points and box are what the files say.
        back = transform_points(sample["points"][:, :3].astype(np.float64), sample["frustum2lidar"])
        np.testing.assert_allclose(back, scan[kept, :3], atol=1e-4)
        box = transform_boxes(sample["box"][None].astype(np.float64), sample["frustum2lidar"], upright="source")
        upright = lidar_to_upright(box, sample["calibration"])
        np.testing.assert_allclose(upright, boxes_from_kitti([size], [place], [turn]), atol=0.006)  # 2 digits in files
        inside = points_in_boxes_mask(torch.from_numpy(sample["points"]), torch.from_numpy(sample["box"])[None])[:, 0]
        assert (inside.numpy() == sample["point_labels"]).mean() > 0.98  # the box of the sample is rounded to float32
        # The middle of the box lies straight ahead.
        assert abs(math.atan2(sample["box"][1], sample["box"][0])) < 0.03


def test_boxes_of_training_are_moved_and_resized(root):
    still = KITTIFrustums(root=root, split="sim_train")
    data = KITTIFrustums(root=root, split="sim_train", box_shift=0.1)
    found = [data[SampleKey(epoch, 0, seed=3)] for epoch in range(300)]
    box = still[0]["box_2d"]
    boxes = np.stack([sample["box_2d"] for sample in found])
    size = box[2:] - box[:2]
    sizes = (boxes[:, 2:] - boxes[:, :2]) / size
    moves = ((boxes[:, :2] + boxes[:, 2:]) / 2 - (box[:2] + box[2:]) / 2) / size
    for drawn, middle in ((sizes, 1.0), (moves, 0.0)):  # evenly over the whole range, along each axis by itself
        assert np.abs(drawn - middle).max() <= 0.1 + 1e-6 and (np.abs(drawn - middle).max(0) > 0.098).all()
        assert np.abs(drawn.mean(0) - middle).max() < 0.02
    assert np.abs(np.corrcoef(np.hstack([sizes, moves]).T) - np.eye(4)).max() < 0.3
    for sample in found[:20]:  # the frustum is that of the moved box
        scan, calibration = data.read_scan("000000"), sample["calibration"]
        kept = in_frustum(scan[:, :3], sample["box_2d"], calibration, image_size=sample["image_size"])
        np.testing.assert_array_equal(sample["points"][:, 3], scan[kept, 3])
        assert sample["frustum_angle"] != still[0]["frustum_angle"]
    again = data[SampleKey(7, 0, seed=3)]
    np.testing.assert_array_equal(again["points"], found[7]["points"])
    np.testing.assert_array_equal(data.read_sample(0)["box_2d"], box)
    with pytest.raises(ValueError, match=r"KITTIFrustums: box_shift must be in \[0, 1\), got 1"):
        KITTIFrustums(root=root, split="sim_train", box_shift=1)


def test_what_a_camera_does_not_see_is_in_no_frustum(root):
    """Points by hand: straight ahead, on the car itself, behind it, and beside the image in a box that reaches out."""
    calibration = KITTIFrustums(root=root, split="sim_train")[0]["calibration"]
    xyz = np.array([[10.0, 0, 0], [1.9, 0, 0], [2.1, 0, 0], [-10, 0, 0], [10, -7.5, 0]], np.float32)
    box, (height, width) = np.array([-900.0, -900, 900, 900]), tiny.SIZE
    pixels, _ = calibration.project(xyz[[4]].astype(np.float64))
    assert width < pixels[0, 0] < 900 and 0 < pixels[0, 1] < height
    assert in_frustum(xyz, box, calibration, image_size=tiny.SIZE).tolist() == [True, False, True, False, False]
    assert in_frustum(xyz, box, calibration, image_size=(height, 900))[4]


def test_frustums_by_height_and_class(root):
    assert len(KITTIFrustums(root=root, split="sim_train", classes=("Cyclist",))) == 1
    with pytest.raises(ValueError, match="must have 2D boxes of"):
        KITTIFrustums(root=root, split="sim_train", min_height=119)


def test_frustums_of_detections(root, tmp_path):
    rows = ["some/path/000000.png 2 0.9 190 60 250 110", "some/path/000002.png 1 0.2 0 0 5 5"]
    (tmp_path / "list.txt").write_text("\n".join(rows) + "\n")
    data = KITTIFrustums(root=root, split="sim_val", detections=tmp_path / "list.txt", test_mode=True)
    assert data.tokens == ["000000/0", "000002/0"]
    assert data[0]["score_2d"] == 0.9 and "box" not in data[0] and "point_labels" not in data[0]
    assert data[1]["points"].shape == (0, 4) and data[1]["class_index"] == 1  # nothing there: N = 0
    assert collate([data[0], data[1]])["inputs"]["points"][1].shape == (0, 4)
    for row, message in (
        ("000000.png 2 0.9 190 60 190 110", "line 1: the box must be finite and have area"),
        ("000000.png 4 0.9 190 60 199 110", "line 1: must be 'image type score left top right bottom'"),
        ("000000.png 2 0.9 190 60 199", "line 1: must be 'image type"),
        ("000000.png 2 nan 190 60 199 110", "line 1: the box must be finite"),
    ):
        (tmp_path / "list.txt").write_text(row + "\n")
        with pytest.raises(ValueError, match=message):
            read_detections_2d(tmp_path / "list.txt")
    with pytest.raises(FileNotFoundError, match="2D detections .*nowhere.txt: no such file or folder"):
        read_detections_2d(tmp_path / "nowhere.txt")
    results = tmp_path / "results"  # as a detector on images writes them: nothing is known in space
    results.mkdir()
    row = "Cyclist -1 -1 -10 50 20 90 100 -1 -1 -1 -1000 -1000 -1000 -10 0.7\n"
    (results / "000001.txt").write_text(row)
    data = KITTIFrustums(root=root, split="sim_val", detections=results)
    assert data.tokens == ["000001/0"] and data[0]["class_index"] == 2 and data[0]["score_2d"] == 0.7
    (results / "000001.txt").write_text(row.replace("90 100", "50 100"))
    with pytest.raises(ValueError, match=r"000001.txt: boxes must have area, got \[50.0, 20.0, 50.0, 100.0\] in row 0"):
        KITTIFrustums(root=root, split="sim_val", detections=results)
    folder = root / "training/label_2"
    assert set(read_detections_2d(folder)) == {"000000", "000001", "000002"}
    (root / "training/label_2").rename(root / "training/hidden")
    with pytest.raises(FileNotFoundError, match="label_2 is missing; give detections"):
        KITTIFrustums(root=root, split="sim_val")


def test_real_frustums_contain_the_labelled_objects(realdata):
    """By the real calibration, the frustum of each labelled 2D box holds the points inside the labelled 3D box."""
    root = realdata / "kitti_object"
    frames = KITTIObject(root=root, split="training", test_mode=True)
    frustums = KITTIFrustums(root=root, split="training", test_mode=True)
    assert frustums.tokens == ["000000/0", "000001/1", "000001/2", "000002/1"]
    shares, counts = [], []
    for index in range(len(frustums)):
        sample = frustums[index]
        frame = frames[frames.tokens.index(sample["frame"])]
        box = transform_boxes(sample["box"][None].astype(np.float64), sample["frustum2lidar"], upright="source")
        inside = points_in_boxes_mask(torch.from_numpy(frame["points"]), torch.from_numpy(box))[:, 0].sum().item()
        counts.append(inside)
        shares.append(sample["point_labels"].sum() / inside)
        np.testing.assert_allclose(lidar_to_upright(box, sample["calibration"])[0, 2], frame["boxes"][0, 2], atol=2)
    assert min(counts) >= 9 and min(shares) > 0.97
    assert all(share == 1 for share in shares[1:])
    # The labels' own alpha is that of their place and turn, to the digits of the file.
    objects = frames[1]["objects"]
    np.testing.assert_allclose(alpha_of(objects.boxes()), objects.alpha, atol=0.03)
    rectangles = boxes_on_image(objects.boxes(), frames[1]["calibration"])
    np.testing.assert_allclose(rectangles, objects.boxes_2d, atol=6)  # drawn by hand on the image
