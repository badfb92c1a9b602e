# SPDX-License-Identifier: Apache-2.0
"""BEVFusion's preprocessor: voxels against a dictionary of points, images against the formula."""

import math

import pytest
import torch

from pcperc.models.bevfusion.data_preprocessor import BEVFusionPreprocessor, HardVoxelizer

RANGE = (-4.0, -2.0, -1.0, 4.0, 2.0, 1.0)


def make_voxelizer(**changes) -> HardVoxelizer:
    settings = dict(voxel_size=(0.5, 0.25, 0.4), point_range=RANGE, spatial_shape=(16, 16, 6), max_points=3)
    return HardVoxelizer(**settings | changes)


def voxel_means(cloud, limit: int, max_voxels: int = 10**6) -> dict:
    """Voxel to the mean of its first points, by loops; the first voxels only."""
    members: dict = {}
    for point in cloud.tolist():
        index = [math.floor((point[a] - RANGE[a]) / (0.5, 0.25, 0.4)[a]) for a in range(3)]
        if all(RANGE[a] <= point[a] < RANGE[a + 3] for a in range(3)):
            if tuple(index) in members or len(members) < max_voxels:
                members.setdefault(tuple(index), []).append(point)
    return {k: [sum(c) / len(c) for c in zip(*v[:limit], strict=True)] for k, v in members.items()}


def as_dict(voxels, index: int) -> dict:
    rows = (voxels.coords[:, 0] == index).nonzero()[:, 0].tolist()
    return {tuple(voxels.coords[r, 1:].tolist()): voxels.feats[r].tolist() for r in rows}


def random_cloud(count: int) -> torch.Tensor:
    return torch.rand(count, 5) * torch.tensor([10, 5, 3, 255, 0.5]) + torch.tensor([-5, -2.5, -1.5, 0, 0])


@pytest.mark.parametrize(("training", "limit"), [(True, 20), (False, 30)])
def test_voxels_are_means_of_the_first_points(training, limit):
    clouds = [random_cloud(400), torch.zeros(0, 5), random_cloud(30)]
    preprocess = BEVFusionPreprocessor(make_voxelizer(max_voxels=(20, 30)))
    voxels = preprocess({"inputs": {"points": clouds}, "samples": []}, training)["inputs"]["voxels"]
    assert (voxels.batch_size, voxels.spatial_shape) == (3, (16, 16, 6))
    for index, cloud in enumerate(clouds):
        expected = voxel_means(cloud, 3, limit)
        found = as_dict(voxels, index)
        assert set(found) == set(expected)
        for key, mean in expected.items():
            assert found[key] == pytest.approx(mean, rel=1e-5, abs=1e-5)


def test_points_out_of_range_and_not_a_number_are_dropped():
    cloud = torch.tensor([[9.0, 0, 0, 1, 0], [float("nan"), 0, 0, 1, 0], [4.0, 0, 0, 1, 0], [0, 0, 1.0, 1, 0]])
    voxels = make_voxelizer()([cloud], training=True)
    assert (len(voxels.coords), voxels.batch_size) == (0, 1)


def test_order_of_points_does_not_matter_below_the_limits():
    cloud = random_cloud(300)
    voxelizer = make_voxelizer(max_points=300)
    first = as_dict(voxelizer([cloud], training=True), 0)
    second = as_dict(voxelizer([cloud[torch.randperm(300)]], training=True), 0)
    assert set(first) == set(second)
    for key, mean in first.items():
        assert second[key] == pytest.approx(mean, rel=1e-4, abs=1e-4)


def test_images_are_normalised_by_colour():
    images = torch.randint(0, 256, (2, 3, 3, 4, 5), dtype=torch.uint8)
    batch = {"inputs": {"images": images, "lidar_aug": torch.eye(4)[None]}, "samples": [{"token": "a"}]}
    out = BEVFusionPreprocessor(None, image_mean=(10, 20, 30), image_std=(2, 4, 8))(batch)
    expected = torch.stack([(images[:, :, c].double() - 10 * (c + 1)) / 2 ** (c + 1) for c in range(3)], 2)
    torch.testing.assert_close(out["inputs"]["images"].double(), expected)
    assert out["inputs"]["images"].dtype == torch.float32
    assert out["samples"] == [{"token": "a"}]
    assert "voxels" not in out["inputs"]
    assert batch["inputs"]["images"].dtype == torch.uint8, "the caller's batch was changed"


def test_images_stay_float32_under_autocast():
    images = torch.full((1, 1, 3, 2, 2), 255, dtype=torch.uint8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = BEVFusionPreprocessor()({"inputs": {"images": images}, "samples": []})["inputs"]["images"]
    assert out.dtype == torch.float32
    assert out[0, 0, :, 0, 0].tolist() == pytest.approx([2.2489, 2.4286, 2.64], abs=1e-4)


def test_device_is_where_the_model_is():
    model = torch.nn.Sequential(BEVFusionPreprocessor())
    assert model.to("meta")[0].device.type == "meta"


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"spatial_shape must be at least .*16.*got \(15, 16, 6\)"):
        make_voxelizer(spatial_shape=(15, 16, 6))
    with pytest.raises(ValueError, match=r"inputs must hold 'points', got \['lidar_aug'\]"):
        BEVFusionPreprocessor(make_voxelizer())({"inputs": {"lidar_aug": torch.eye(4)[None]}, "samples": []})
    with pytest.raises(ValueError, match=r"images must be \(B, V, 3, H, W\), got \(1, 3, 4, 4\)"):
        BEVFusionPreprocessor()({"inputs": {"images": torch.zeros(1, 3, 4, 4)}, "samples": []})
