# SPDX-License-Identifier: Apache-2.0
"""PointPillars: pillars, decorated points and the map against float64 loops."""

import math

import numpy as np
import pytest
import torch

from pcperc.models.bevfusion.bev_decoder import SECONDFPN
from pcperc.models.bevfusion.data_preprocessor import BEVFusionPreprocessor
from pcperc.models.bevfusion.pillar_encoder import PillarVoxelizer, PointPillarsEncoder

RANGE = (-4.0, -3.0, -2.0, 4.0, 3.0, 2.0)
SIZE = (1.0, 1.5)


def clouds(seed: int = 0) -> list[torch.Tensor]:
    """Two clouds, some points outside of the range, and an empty one."""
    rng = np.random.default_rng(seed)
    full = [np.c_[rng.uniform(-4.5, 4.5, (n, 2)), rng.uniform(-2.2, 2.2, n), rng.random((n, 2))] for n in (60, 200)]
    return [*(torch.from_numpy(cloud).float() for cloud in full), torch.zeros(0, 5)]


def make_encoder(**changes) -> PointPillarsEncoder:
    return PointPillarsEncoder(5, channels=(8, 6), pillar_size=SIZE, point_range=RANGE, **changes)


def points_by_pillar(cloud: torch.Tensor, max_points: int) -> dict[tuple, list[list[float]]]:
    found: dict[tuple, list] = {}
    for row in cloud.double().tolist():
        if all(low <= v < high for v, low, high in zip(row, RANGE[:3], RANGE[3:], strict=False)):
            key = (math.floor((row[0] + 4) / 1.0), math.floor((row[1] + 3) / 1.5))
            if len(found.setdefault(key, [])) < max_points:
                found[key].append(row)
    return found


def map_by_loops(cloud: torch.Tensor, encoder: PointPillarsEncoder, max_points: int) -> np.ndarray:
    """In eval mode; empty places are zeros and take part in the maximum after the norm."""
    state = {name: value.double().numpy() for name, value in encoder.state_dict().items()}
    out = np.zeros((6, 8, 4))
    for (x, y), rows in points_by_pillar(cloud, max_points).items():
        mean = np.mean([row[:3] for row in rows], axis=0)
        middle = (-4 + (x + 0.5) * 1.0, -3 + (y + 0.5) * 1.5)
        places = np.zeros((max_points, 10))
        for place, row in enumerate(rows):
            places[place] = [*row, *(np.array(row[:3]) - mean), row[0] - middle[0], row[1] - middle[1]]
        for number in (0, 1):
            prefix = f"layers.{number}."
            places = places @ state[prefix + "linear.weight"].T
            scale = state[prefix + "norm.weight"] / np.sqrt(state[prefix + "norm.running_var"] + 1e-3)
            places = (places - state[prefix + "norm.running_mean"]) * scale + state[prefix + "norm.bias"]
            places = np.maximum(places, 0)
            if number == 0:
                places = np.concatenate([places, np.tile(places.max(0), (max_points, 1))], axis=1)
        out[:, x, y] = places.max(0)
    return out


def trained_encoder() -> PointPillarsEncoder:
    """With norms that are not the identity, so that empty places are not 0 after them."""
    encoder = make_encoder()
    for layer in encoder.layers:
        for value in (layer.norm.weight, layer.norm.bias, layer.norm.running_mean):
            torch.nn.init.normal_(value)
        torch.nn.init.uniform_(layer.norm.running_var, 0.5, 2)
    return encoder.eval()


def test_map_equals_the_loops(device):
    encoder = trained_encoder().to(device)
    voxelizer = PillarVoxelizer(SIZE, RANGE, max_points=6, max_pillars=(50, 50))
    pillars = voxelizer([cloud.to(device) for cloud in clouds()], training=False)
    assert pillars.num_points.min() == 1 and pillars.num_points.max() == 6
    with torch.no_grad():
        found = encoder({"voxels": pillars}).cpu().numpy()
    expected = np.stack([map_by_loops(cloud, encoder.cpu(), 6) for cloud in clouds()])
    assert found.shape == (3, 6, 8, 4) and (expected[2] == 0).all()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_limits_of_training_and_testing():
    voxelizer = PillarVoxelizer(SIZE, RANGE, max_points=2, max_pillars=(3, 5))
    for training, limit in ((True, 3), (False, 5)):
        pillars = voxelizer(clouds(), training=training)
        assert pillars.coords[:, 0].bincount().tolist() == [limit, limit]
        assert pillars.num_points.max() == 2 and pillars.points.shape[1:] == (2, 5)
        assert pillars.batch_size == 3


def test_published_size():
    """10 -> 32, then 64 -> 64, each with its norm."""
    encoder = PointPillarsEncoder()
    assert sum(p.numel() for p in encoder.parameters()) == 10 * 32 + 64 + 64 * 64 + 128 == 4_608
    assert encoder.grid_shape == (512, 512)
    assert {(m.eps, m.momentum) for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm1d)} == {(1e-3, 0.01)}


def test_gradients_reach_everything():
    encoder = make_encoder().train()
    pillars = PillarVoxelizer(SIZE, RANGE)(clouds(), training=True)
    encoder({"voxels": pillars}).pow(2).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


def test_through_the_preprocessor():
    preprocessor = BEVFusionPreprocessor(PillarVoxelizer(SIZE, RANGE))
    batch = preprocessor({"inputs": {"points": clouds()}, "samples": [{}] * 3}, training=True)
    assert make_encoder()(batch["inputs"]).shape == (3, 6, 8, 4)
    nothing = preprocessor({"inputs": {"points": clouds()[2:]}, "samples": [{}]}, training=False)
    assert not make_encoder().eval()(nothing["inputs"]).any()


def test_pyramid_makes_a_map_coarser():
    """An upsample stride of 0.5 is a convolution of side 2 and step 2."""
    neck = SECONDFPN((1, 1), (1, 1), upsample_strides=(0.5, 1), norm_eps=1e-12).eval()
    with torch.no_grad():
        for block in neck.deblocks:
            block.conv.weight.fill_(1.0)
    fine, coarse = torch.rand(1, 1, 4, 6), torch.rand(1, 1, 2, 3)
    out = neck([fine, coarse])
    torch.testing.assert_close(out[:, :1], 4 * torch.nn.functional.avg_pool2d(fine, 2))
    torch.testing.assert_close(out[:, 1:], coarse)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="pillar_size must divide the range"):
        PointPillarsEncoder(pillar_size=(0.3, 0.2))
    with pytest.raises(ValueError, match=r"inputs\['voxels'\] must be Pillars .*got NoneType"):
        make_encoder()({})
    with pytest.raises(ValueError, match="upsample_strides must be whole numbers or their inverses, got 0.3"):
        SECONDFPN((1,), (1,), upsample_strides=(0.3,))
