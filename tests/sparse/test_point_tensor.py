# SPDX-License-Identifier: Apache-2.0
"""Which voxels points are in, that it is found once, and what is refused."""

import numpy as np
import pytest
import torch

from pcperc import PointTensor, SparseTensor, ops
from tests import oracles_points

LIMIT = {1: 2**17, 2: 2**17, 3: 2**17, 4: 2**13}


def random_points(count=60, *, dims=3, batch_size=2, low=-6.0, high=6.0, channels=3, dtype=torch.float64):
    batch = torch.randint(batch_size, (count, 1)).to(dtype)
    coords = torch.cat([batch, low + (high - low) * torch.rand(count, dims, dtype=dtype)], 1)
    return PointTensor(coords, torch.randn(count, channels, dtype=dtype), batch_size)


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_voxels_are_those_that_hold_a_point(dims, stride, device):
    points = random_points(dims=dims).to(device)
    topology = points.voxels(stride)
    expected, row = np.unique(oracles_points.cells(points.coords.cpu().numpy(), stride), axis=0, return_inverse=True)
    order = ops.unique_coords(torch.from_numpy(expected).int())  # by key, negative values first
    assert torch.equal(topology.coords.cpu(), order.coords) and topology.tensor_stride == (stride,) * dims
    assert torch.equal(points.segments(topology).index.cpu().long(), order.inverse[torch.from_numpy(row).flatten()])
    assert topology.batch_size == 2 and topology.spatial_shape is None


def test_a_point_below_a_voxel_by_rounding_stays_in_it():
    """-1e-9 + 6 is 6 in float32: floor first, whole numbers after it."""
    coords = torch.tensor([[0, np.nextafter(np.float32(6), np.float32(0)), 0.0, 0.0], [0, -1e-30, 5.0, 6.0]])
    assert PointTensor(coords, torch.zeros(2, 1)).voxels(3).coords.tolist() == [[0, -1, 1, 2], [0, 1, 0, 0]]


def test_a_spacing_may_be_larger_than_an_index_can_be():
    points = PointTensor(torch.tensor([[0, 5.0, -3.0, 0.5]]), torch.zeros(1, 1))
    for stride in (2**20, 2**32, 2**33 + 2):
        assert points.voxels(stride).coords.tolist() == [[0, 0, -1, 0]]
        assert points.voxels(stride).tensor_stride == (stride,) * 3


def test_what_was_found_is_kept_for_all_features_of_the_points(monkeypatch):
    points = random_points()
    found = {"segments": 0, "unique": 0, "plan": 0}

    def counted(name, operator):
        def run(*arguments, **options):
            found[name] += 1
            return operator(*arguments, **options)

        return run

    monkeypatch.setattr(ops, "make_segments", counted("segments", ops.make_segments))
    monkeypatch.setattr(ops, "unique_coords", counted("unique", ops.unique_coords))
    monkeypatch.setattr(ops, "make_interpolation_plan", counted("plan", ops.make_interpolation_plan))
    others = points.replace(feats=torch.zeros(len(points), 1))
    assert points.voxels(2) is others.voxels((2, 2, 2)) and points.kernel_maps is others.kernel_maps
    assert points.segments(points.voxels(2)) is others.segments(points.voxels(2))
    assert points.interpolation_plan(points.voxels(2)) is others.interpolation_plan(points.voxels(2))
    assert found == {"segments": 1, "unique": 1, "plan": 1}
    assert points.voxels(4) is not points.voxels(2)
    with torch.inference_mode():
        kept = random_points()
        kept.interpolation_plan(kept.voxels())
    feats = torch.randn(len(kept.voxels().coords), 2, dtype=torch.float64, requires_grad=True)
    ops.weighted_gather(feats, kept.interpolation_plan(kept.voxels())).sum().backward()


def test_moving_keeps_the_points_and_casts_features_alone():
    points = random_points(dtype=torch.float32)
    half = points.half()
    assert half.dtype == torch.float16 and half.coords is points.coords and half.voxels() is points.voxels()
    assert points.to("cpu") is points
    moved = points.to("meta")
    assert moved.device.type == moved.coords.device.type == "meta" and moved.batch_size == 2
    assert repr(half) == "PointTensor(num_points=60, num_channels=3, batch_size=2, dtype=float16, device=cpu)"
    assert len(points) == points.num_points == 60 and points.dims == 3 and not points.detach().requires_grad


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
def test_the_limits_of_the_key_are_found_again(dims):
    top = np.nextafter(np.float32(LIMIT[dims]), np.float32(0))
    coords = torch.tensor([[0.0] + [0.5 - LIMIT[dims]] * dims, [1.0] + [float(top)] * dims])
    points = PointTensor(coords, torch.zeros(2, 1), 2)
    assert points.voxels().coords[:, 1].tolist() == [-LIMIT[dims], LIMIT[dims] - 1]
    assert points.interpolation_plan(points.voxels()).weights.sum(1).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("value", [1e6, -1e30, np.nan, np.inf])
def test_points_that_nobody_checked_are_no_voxels_in_silence(value):
    xyz = torch.rand(2, 5, 3)
    xyz[1, 2, 0] = value
    points = PointTensor.of_equal_clouds(xyz, torch.zeros(2, 5, 1))
    with pytest.raises(ValueError, match=r"unique_coords: coords row 7 = \[1, .*\] is out of range"):
        points.voxels()


def test_no_points():
    points = PointTensor(torch.zeros(0, 4), torch.zeros(0, 2))
    assert points.batch_size == 0 and points.voxels().coords.shape == (0, 4)
    points = PointTensor(torch.zeros(0, 4), torch.zeros(0, 2), 3)
    assert points.interpolation_plan(points.voxels()).rows.shape == (0, 8)


COORDS = torch.tensor([[0.0, 1.0, 2.0, 3.0], [1.0, -1.0, 0.0, 0.5]])


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ([0, np.nan, 0, 0], "nan"),
        ([0, 0, np.inf, 0], "inf"),
        ([0, 0, 0, 131072.0], "131072"),
        ([0, -131072.0, 0, 0], "-131072"),
        ([np.nan, 0, 0, 0], "nan"),
        ([0.5, 0, 0, 0], "0.5"),
        ([-1, 0, 0, 0], "-1"),
        ([2, 0, 0, 0], "2.0"),
        ([3e9, 0, 0, 0], "3000000000"),
    ],
)
@pytest.mark.parametrize("batch_size", [2, None])
def test_values_that_are_in_no_voxel_are_named(row, shown, batch_size):
    if row[0] == 2 and batch_size is None:
        return
    coords = torch.cat([COORDS, torch.tensor([row])])
    with pytest.raises(ValueError, match=rf"PointTensor: coords must be finite, in .* got row 2 = \[.*{shown}.*\]"):
        PointTensor(coords, torch.zeros(3, 1), batch_size)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: PointTensor(COORDS.int(), COORDS), ValueError, r"coords must be \(N, 1 \+ D\) float32 or float64"),
        (lambda: PointTensor(COORDS.half(), COORDS), ValueError, "coords must be .* got .* float16"),
        (lambda: PointTensor(COORDS.numpy(), COORDS), TypeError, "coords must be a tensor, got ndarray"),
        (lambda: PointTensor(COORDS, COORDS[:1]), ValueError, r"feats must be \(2, C\) floating point, got \(1, 4\)"),
        (lambda: PointTensor(COORDS, COORDS.to("meta")), ValueError, "feats must be on cpu"),
        (lambda: PointTensor(COORDS, COORDS, 0), ValueError, "batch_size must be a whole number > 0, got 0"),
        (lambda: PointTensor(COORDS, COORDS, 1024), ValueError, r"batch_size must be in \[1, 1023\].*1024"),
        (lambda: PointTensor(COORDS, COORDS).replace(feats=COORDS[:1]), ValueError, "feats must be"),
        (lambda: PointTensor(COORDS, COORDS).voxels(0), ValueError, r"voxels: tensor_stride must be .* >= 1"),
        (
            lambda: PointTensor(COORDS, COORDS).segments(COORDS),
            TypeError,
            "segments: topology must be .* got .* float32",
        ),
        (
            lambda: PointTensor(COORDS, COORDS).dense_grid([4]),
            TypeError,
            r"dense_grid: resolution must be .* got \[4\]",
        ),
        (lambda: PointTensor(COORDS, COORDS).to(torch.int32), (ValueError, TypeError), "feats must be"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=f"PointTensor.*{message}"):
        call()


def test_voxels_of_another_batch_or_lattice_are_refused():
    points = PointTensor(COORDS, COORDS, 2)
    for coords, options, message in (
        (torch.zeros(1, 3).int(), {}, "spatial axes 3 like the points, got 2"),
        (torch.zeros(1, 4).int(), {"batch_size": 3}, "batch_size 2 like the points, got 3"),
        (torch.zeros(2, 4).int(), {"batch_size": 2}, "distinct"),
    ):
        x = SparseTensor(coords, torch.zeros(len(coords), 1), **{"batch_size": 2, **options})
        with pytest.raises(ValueError, match=f"PointTensor.segments: .*{message}"):
            points.segments(x.topology)
