# SPDX-License-Identifier: Apache-2.0
"""Boxes, sweeps, projections, classes and splits, with the nuScenes devkit as oracle."""

import numpy as np
import pytest

from pcperc.datasets import nuscenes_index
from pcperc.datasets.nuscenes_record import CLASS_OF_CATEGORY, CLASSES
from pcperc.datasets.nuscenes_tables import CAMERAS
from pcperc.geometry import box_corners
from tests import nuscenes_root as tiny
from tests.datasets.nuscenes_helpers import dataset


@pytest.fixture(scope="module")
def nusc(prepared):
    nuscenes = pytest.importorskip("nuscenes")
    return nuscenes.NuScenes(tiny.VERSION, str(prepared), verbose=False)


@pytest.mark.parametrize("index", range(3))
def test_boxes_equal_the_devkit(prepared, nusc, index):
    from pyquaternion import Quaternion

    record = dataset(prepared).read_record(index)
    row = nusc.get("sample", record["sample_token"])
    lidar = nusc.get("sample_data", row["data"]["LIDAR_TOP"])
    _, boxes, _ = nusc.get_sample_data(lidar["token"])
    boxes = [box for box in boxes if CLASS_OF_CATEGORY[box.name] is not None]
    assert record["names"] == [CLASS_OF_CATEGORY[box.name] for box in boxes]
    ours = np.array(record["boxes"], float)
    for box, mine in zip(boxes, ours, strict=True):
        corners = box_corners(mine[None])[0]
        expected = box.corners().T
        assert np.abs(corners[:, None] - expected[None]).max(-1).min(1).max() < 1e-5
        velocity = np.array([*nusc.box_velocity(box.token)[:2], 0.0])
        for pose in ("ego_pose", "calibrated_sensor"):
            rotation = nusc.get(pose, lidar[f"{pose}_token"])["rotation"]
            velocity = Quaternion(rotation).inverse.rotate(velocity)
        np.testing.assert_allclose(mine[7:], velocity[:2], atol=1e-5)


def test_sweeps_equal_the_devkit(prepared, nusc):
    from nuscenes.utils.data_classes import LidarPointCloud

    data = dataset(prepared, num_sweeps=9)
    sample = data.read_sample(2)
    row = nusc.get("sample", sample["sample_token"])
    cloud, times = LidarPointCloud.from_file_multisweep(
        nusc, row, "LIDAR_TOP", "LIDAR_TOP", nsweeps=10, min_distance=1.0
    )
    points = sample["points"]
    key = points[:320]  # the devkit removes close points of the key sweep too, the published recipe does not
    far = (np.abs(key[:, :2]) >= 1).any(1)
    points = np.concatenate([key[far], points[320:]])
    assert points.dtype == np.float32 and points.shape == (3000, 5)
    np.testing.assert_allclose(points[:, :4], cloud.points.T, atol=1e-4)
    np.testing.assert_allclose(points[:, 4], times[0], atol=1e-5)


def test_projection_equals_the_devkit(prepared, nusc):
    from pyquaternion import Quaternion

    sample = dataset(prepared).read_sample(1)
    row = nusc.get("sample", sample["sample_token"])
    points = sample["points"][:50, :3].astype(float)
    for index, channel in enumerate(CAMERAS):
        xyz = points.T
        lidar, camera = (nusc.get("sample_data", row["data"][name]) for name in ("LIDAR_TOP", channel))
        for table in ("calibrated_sensor", "ego_pose"):
            pose = nusc.get(table, lidar[f"{table}_token"])
            xyz = Quaternion(pose["rotation"]).rotation_matrix @ xyz + np.array(pose["translation"])[:, None]
        for table in ("ego_pose", "calibrated_sensor"):
            pose = nusc.get(table, camera[f"{table}_token"])
            xyz = Quaternion(pose["rotation"]).rotation_matrix.T @ (xyz - np.array(pose["translation"])[:, None])
        matrix = sample["lidar2camera"][index]
        np.testing.assert_allclose((matrix[:3, :3] @ points.T + matrix[:3, 3:]), xyz, atol=1e-6)
        assert sample["camera2image"][index, 0, 2] == 15.5


def test_class_of_category_is_the_devkits():
    utils = pytest.importorskip("nuscenes.eval.detection.utils")
    for category, name in CLASS_OF_CATEGORY.items():
        assert utils.category_to_detection_name(category) == name
    assert set(CLASS_OF_CATEGORY.values()) - {None} == set(CLASSES)


def test_official_splits_are_by_scene_name(tmp_path):
    (tmp_path / "v1.0-mini").mkdir()
    found = nuscenes_index.split_scenes(tmp_path, "v1.0-mini", ["scene-0103", "scene-0061", "scene-0553"])
    assert found == {"mini_train": ["scene-0061", "scene-0553"], "mini_val": ["scene-0103"]}
    (tmp_path / "v1.0-trainval").mkdir()
    assert set(nuscenes_index.split_scenes(tmp_path, "v1.0-trainval", ["scene-0103", "scene-0061"])) == {"train", "val"}
