# SPDX-License-Identifier: Apache-2.0
"""Argoverse 2: made-up logs of known content, the real sample, simulated logs, and bad input."""

import shutil

import cv2
import numpy as np
import pytest
import torch

from pcperc.datasets.argoverse2 import Argoverse2
from pcperc.datasets.argoverse2_log import _velocities, read_sweep
from pcperc.geometry import project_points
from pcperc.ops.points_in_boxes import points_in_boxes_mask
from pcperc.tables import read_table, write_table
from tests.argoverse2_root import (
    CAMERA,
    LOG,
    LOOKING_FORWARD,
    START,
    STEP,
    ego_pose,
    pose_columns,
    simulate_logs,
    write_root,
)

pytest.importorskip("pyarrow")


@pytest.fixture
def root(tmp_path):
    return write_root(tmp_path / "av2")


def test_a_sample(root):
    data = Argoverse2(root=root, split="val", num_sweeps=2)
    sample = data[2]
    assert len(data) == 3 and sample["sample_token"] == f"{LOG}/{START + 2 * STEP}" and sample["location"] == "PIT"
    np.testing.assert_allclose(sample["ego2global"], ego_pose(2), atol=1e-9)
    points = sample["points"]
    assert points.shape == (9, 5) and points.dtype == np.float32
    np.testing.assert_allclose(points[:, 4], np.repeat([0, 0.1, 0.2], 3), atol=1e-6)
    np.testing.assert_array_equal(points[:3, 3], [7, 200, 0])
    # The first point of each sweep is the car's middle, brought into the last vehicle's frame: it moves along y there.
    city = points[::3, :3] @ ego_pose(2)[:3, :3].T + ego_pose(2)[:3, 3]
    np.testing.assert_allclose(city, [[1010, 501, 21], [1010, 500.5, 21], [1010, 500, 21]], atol=0.02)
    assert [data.classes[label] for label in sample["labels"]] == ["REGULAR_VEHICLE"]
    np.testing.assert_array_equal(sample["num_lidar_pts"], [2])
    box = sample["boxes"][0]
    np.testing.assert_allclose(box[:3], points[0, :3], atol=0.01)
    np.testing.assert_allclose(box[3:7], [4.5, 2.0, 1.6, 0.4], atol=1e-6)
    velocity = ego_pose(2)[:3, :3].T @ [0, 5, 0]
    for index in range(3):
        np.testing.assert_allclose(data[index]["boxes"][0, 7:], velocity[:2], atol=1e-4)
        assert data.tokens[index] == data[index]["sample_token"]


def test_velocities_are_of_neighbours_that_are_near():
    """From the place before to the place after; a track that was lost for long, or was seen once, has none."""
    seconds = {"a": (0.0, 0.5, 1.4, 3.4, 3.9), "b": (0.5,)}
    times = np.array([round(t * 1e9) for track in "ab" for t in seconds[track]])
    tracks = np.array(["a"] * 5 + ["b"])
    centre = np.stack([times * 2e-9, times * 0.0, times * 0.0], 1)
    poses = {int(time): np.eye(4) for time in times}
    found = _velocities(times, tracks, centre, poses)
    np.testing.assert_allclose(found[:, 0], [2, 2, np.nan, np.nan, 2, np.nan])
    np.testing.assert_allclose(found[[0, 1, 4], 1], 0)


def test_images_with_ego_motion(root):
    farther = root / "val" / LOG / "sensors/cameras" / CAMERA / f"{START - 80_000_000}.jpg"
    cv2.imwrite(str(farther), np.full((18, 32, 3), 200, np.uint8))
    data = Argoverse2(root=root, split="val", modalities=("camera",), cameras=[CAMERA])
    sample = data[0]
    assert sample["images"][0].max() < 100, "the nearest in time is taken"
    assert "points" not in sample and sample["images"][0].shape == (18, 32, 3)
    # The camera fires 0.03 s later, 0.24 m further on along the city's x.
    ahead = np.array([[11.6, 0, 1.4]])
    moved = ahead - ego_pose(0)[:3, :3].T @ [0.24, 0, 0]
    _, depth = project_points(moved[None], sample["lidar2camera"], sample["camera2image"])
    still = np.linalg.inv(LOOKING_FORWARD)
    assert depth[0, 0] == pytest.approx((still @ [*(moved[0] - ego_pose(0)[:3, :3].T @ [0.24, 0, 0]), 1])[2], abs=1e-6)


@pytest.mark.realdata
def test_points_in_the_real_boxes_are_as_many_as_published(realdata):
    data = Argoverse2(root=realdata, split="argoverse2", num_sweeps=0)
    assert len(data) == 2
    for index in range(2):
        sample = data[index]
        inside = points_in_boxes_mask(torch.from_numpy(sample["points"]), torch.from_numpy(sample["boxes"]))
        np.testing.assert_array_equal(inside.sum(0).numpy(), sample["num_lidar_pts"])
        assert len(sample["boxes"]) == 71 and sample["num_lidar_pts"].min() > 0
        speed = np.linalg.norm(sample["boxes"][:, 7:], axis=1)
        assert np.isfinite(speed).all() and speed.max() < 30


def test_simulated_logs(tmp_path):
    data = Argoverse2(root=simulate_logs(tmp_path / "simulated"), split="val", num_sweeps=0)
    assert len(data) == 3 and data[0]["scene_name"].startswith("sim-0002")
    for index in range(3):
        sample = data[index]
        inside = points_in_boxes_mask(torch.from_numpy(sample["points"]), torch.from_numpy(sample["boxes"]))
        wrong = (inside.sum(0).numpy() != sample["num_lidar_pts"]).sum()
        assert wrong == 0 and len(sample["boxes"]) > 5


def test_bad_input(root):
    log = root / "val" / LOG
    with pytest.raises(FileNotFoundError, match="train is missing"):
        Argoverse2(root=root, split="train")
    with pytest.raises(ValueError, match="classes must be of ARTICULATED_BUS.*, got .'TREE'"):
        Argoverse2(root=root, split="val", classes=["TREE"])
    with pytest.raises(ValueError, match=f"log .*{LOG} must have images and calibration of ring_rear_left"):
        Argoverse2(root=root, split="val", modalities=("camera",), cameras=["ring_rear_left"])[0]
    sweep = log / "sensors/lidar" / f"{START}.feather"
    sweep.write_bytes(sweep.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"table .*{START}.feather cannot be read, it is truncated"):
        Argoverse2(root=root, split="val")[0]
    write_table(log / "city_SE3_egovehicle.feather", {"timestamp_ns": [START], **pose_columns([ego_pose(0)])})
    with pytest.raises(ValueError, match=f"must have a pose at {START + STEP} ns"):
        Argoverse2(root=root, split="val")[1]
    write_table(log / "annotations.feather", {"timestamp_ns": [START]})
    with pytest.raises(ValueError, match="annotations.feather must have the column 'track_uuid', got timestamp_ns"):
        Argoverse2(root=root, split="val")[0]
    shutil.rmtree(log / "sensors")
    with pytest.raises(FileNotFoundError, match="must have sensors/lidar, but has none"):
        Argoverse2(root=root, split="val")


def replace_columns(path, **values):
    """Write a table again with some columns exchanged; a string stands for a column that is there."""
    arrow = pytest.importorskip("pyarrow")
    names = arrow.feather.read_table(path).column_names
    table = read_table(path, names)
    write_table(path, {name: values.get(name, table[name]) for name in names})


def test_values_that_are_no_numbers(root):
    log = root / "val" / LOG
    annotations, poses = log / "annotations.feather", log / "city_SE3_egovehicle.feather"
    before = annotations.read_bytes()
    replace_columns(annotations, width_m=[2.0] * 8 + [float("nan")])
    with pytest.raises(
        ValueError, match="annotations.feather: column 'width_m' must hold finite numbers, got nan in row 8"
    ):
        Argoverse2(root=root, split="val")[0]
    annotations.write_bytes(before)
    replace_columns(annotations, num_interior_pts=["many"] * 9)
    with pytest.raises(ValueError, match="annotations.feather: column 'num_interior_pts' must hold whole numbers"):
        Argoverse2(root=root, split="val")[0]
    annotations.write_bytes(before)
    replace_columns(poses, qw=np.full(4, 0.1))
    with pytest.raises(ValueError, match="egovehicle.feather: quaternions must have length 1, got 0.1.* in row 0"):
        Argoverse2(root=root, split="val")[0]
    sweep = log / "sensors/lidar" / f"{START}.feather"
    replace_columns(sweep, x=np.array([0, 1, np.inf], np.float16))
    with pytest.raises(ValueError, match=f"{START}.feather: column 'x' must hold finite numbers, got inf in row 2"):
        read_sweep(sweep)


def test_labels_of_a_log_without_annotations(root):
    (root / "val" / LOG / "annotations.feather").unlink()
    data = Argoverse2(root=root, split="val")
    assert len(data) == 3 and "boxes" not in data[0]
    with pytest.raises(FileNotFoundError, match=f"{LOG}/annotations.feather is missing, split val"):
        data.sample_labels(0)


def test_images_that_are_far_or_called_otherwise(root):
    data = Argoverse2(root=root, split="val", modalities=("camera",), cameras=[CAMERA])
    with pytest.raises(
        ValueError, match=f"must have an image of {CAMERA} within 0.1 s .*, the nearest is 0.170 s away"
    ):
        data[2]
    (root / "val" / LOG / "sensors/cameras" / CAMERA / "first.jpg").touch()
    with pytest.raises(ValueError, match=f"files in .*{CAMERA} must be called by their time in ns, got first.jpg"):
        data[0]
