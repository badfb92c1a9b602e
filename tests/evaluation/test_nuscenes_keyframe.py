# SPDX-License-Identifier: Apache-2.0
"""The real keyframe from its files to official scores, as a nuScenes root of one sample."""

import numpy as np
import pytest
import torch

from pcperc import ops
from pcperc.datasets.collate import collate
from pcperc.datasets.nuscenes import NuScenesDataset
from pcperc.datasets.nuscenes_index import prepare_nuscenes
from pcperc.datasets.nuscenes_tables import CAMERAS
from pcperc.evaluation import NuScenesMetric
from pcperc.geometry import Detections, project_points, wrap_angle
from tests.realdata_keyframe import SPLIT, VERSION, load_keyframe, write_keyframe_root

pytestmark = pytest.mark.realdata
VOXEL_SIZE, POINT_RANGE = (0.075, 0.075, 0.2), (-54.0, -54.0, -5.0, 54.0, 54.0, 3.0)


@pytest.fixture(scope="module")
def keyframe(realdata):
    return load_keyframe(realdata)


@pytest.fixture(scope="module")
def root(realdata, tmp_path_factory):
    root = write_keyframe_root(realdata, tmp_path_factory.mktemp("keyframe"))
    prepare_nuscenes(root, VERSION, show_progress=False)
    return root


@pytest.fixture(scope="module")
def sample(root):
    return NuScenesDataset(root=root, version=VERSION, split=SPLIT, num_sweeps=0)[0]


def test_matrices_are_the_recorded_ones(sample, keyframe):
    recorded = [keyframe["cams"][channel] for channel in CAMERAS]
    np.testing.assert_allclose(sample["lidar2camera"], [row["lidar2cam"] for row in recorded], atol=1e-6)
    np.testing.assert_allclose(sample["camera2image"], [row["K"] for row in recorded], atol=1e-6)
    np.testing.assert_allclose(sample["lidar2ego"], keyframe["lidar2ego"], atol=1e-6)
    np.testing.assert_allclose(sample["ego2global"], keyframe["ego2global"], atol=1e-6)


def test_boxes_are_the_recorded_ones(sample, keyframe):
    recorded = [row for row in keyframe["boxes"] if row["valid"] and row["name"] != "-1"]
    expected = np.array([row["box"] for row in recorded])
    assert len(sample["boxes"]) == 65
    np.testing.assert_allclose(sample["boxes"][:, :6], expected[:, :6], atol=1e-5)
    assert np.abs(wrap_angle(sample["boxes"][:, 6] - expected[:, 6])).max() < 1e-5
    assert sample["num_lidar_pts"].tolist() == [row["num_lidar_pts"] for row in recorded]
    assert np.isnan(sample["boxes"][:, 7:]).all()  # of a single sample no velocity is known


def test_number_of_voxels(sample):
    lower, upper = np.array(POINT_RANGE[:3], np.float32), np.array(POINT_RANGE[3:], np.float32)
    xyz = sample["points"][:, :3]
    inside = xyz[((xyz >= lower) & (xyz < upper)).all(1)]
    cells = np.unique(np.floor((inside - lower) / np.array(VOXEL_SIZE, np.float32)), axis=0)
    assert len(cells) == pytest.approx(17_508, rel=0.005)
    if not hasattr(ops, "voxelize_hard"):
        pytest.skip("voxelize_hard is not built yet")
    voxels = ops.voxelize_hard(
        torch.from_numpy(sample["points"]),
        voxel_size=VOXEL_SIZE,
        point_range=POINT_RANGE,
        max_points=10,
        max_voxels=120_000,
    )
    assert len(voxels.coords) == pytest.approx(17_508, rel=0.005)


def test_points_in_boxes_agree_with_the_annotation(sample):
    points = torch.from_numpy(np.ascontiguousarray(sample["points"][:, :3]))
    if not hasattr(ops, "points_in_boxes_mask"):
        pytest.skip("points_in_boxes_mask is not built yet")
    inside = ops.points_in_boxes_mask(points, torch.from_numpy(sample["boxes"])).sum(0).numpy()
    # The annotators' boxes are rounded, so points on their faces fall to either side.
    assert np.abs(inside - sample["num_lidar_pts"]).sum() <= 0.04 * sample["num_lidar_pts"].sum()


def test_boxes_are_seen_by_the_cameras(sample):
    """Every annotated object within 40 m is in at least one image: the cameras look all around."""
    centres = sample["boxes"][:, :3].astype(float)
    near = np.linalg.norm(centres[:, :2], axis=1) < 40
    pixels, depth = project_points(centres[near], sample["lidar2camera"], sample["camera2image"])
    height, width = sample["images"][0].shape[:2]
    seen = (depth > 0.5) & (pixels >= 0).all(-1) & (pixels[..., 0] < width) & (pixels[..., 1] < height)
    assert seen.any(0).all()


def test_truth_scores_one(root, sample):
    pytest.importorskip("nuscenes")
    metric = NuScenesMetric(root=root, version=VERSION, split=SPLIT)
    metric.dataset_meta = {"classes": NuScenesDataset(root=root, version=VERSION, split=SPLIT).classes}
    batch = collate([sample])
    boxes, labels = batch["samples"][0]["boxes"], batch["samples"][0]["labels"]
    metric.process(batch, [Detections(boxes, torch.ones(len(boxes)), labels)])
    metrics = metric.evaluate(1)
    for name in ("car", "truck", "pedestrian", "traffic_cone", "barrier"):
        assert metrics[f"{name}/AP"] == pytest.approx(1), name
        assert metrics[f"{name}/ATE"] < 1e-5 and metrics[f"{name}/ASE"] < 1e-5, name
        assert metrics.get(f"{name}/AOE", 0) < 1e-5, name
