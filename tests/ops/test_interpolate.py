# SPDX-License-Identifier: Apache-2.0
import itertools

import pytest
import torch
import torch.nn.functional as F

from pcperc import ops
from tests import oracles_pool
from tests.op_contract import DifferentiableOpContract, Mistake, Sample, assert_twice_differentiable
from tests.ops.clouds import CLOUDS, coords_of, limit_coords, random_coords


def sample_of(name, coords, points, **options):
    tensors = {"feats": torch.randn(len(coords), 3), "coords": coords, "points": points}
    return Sample(name, tensors, options, terms_summed=8)


def points_among(coords, count=12):
    """Points near voxels, away from the planes where a linear interpolation has a kink."""
    cells = coords[torch.randint(len(coords), (count,))].float()
    shape = (count, coords.shape[1] - 1)
    cells[:, 1:] += torch.randint(-1, 2, shape) + 0.25 * torch.randint(1, 4, shape)
    return cells


class TestInterpolate(DifferentiableOpContract):
    """Plan and weighted gather together."""

    differentiable = ("feats", "points")

    @staticmethod
    def samples():
        torch.manual_seed(1)
        coords = random_coords(60, low=-2, high=2)
        points = points_among(coords)
        found = []
        for mode, renormalize in itertools.product(("nearest", "linear"), (False, True)):
            options = dict(mode=mode, renormalize=renormalize)
            name = mode + "_renormalized" * renormalize
            shifted = points + torch.tensor([0.0, *[0.125 * (mode == "nearest")] * 3])  # off the borders of cells
            found.append(sample_of(name, coords, shifted, **options))
        for dims in (1, 2, 4):
            coords_d = random_coords(40, dims=dims, low=-1, high=1)
            found.append(sample_of(f"linear_{dims}d", coords_d, points_among(coords_d, 6), mode="linear"))
        found.append(sample_of("no_voxels", CLOUDS["empty"], points))
        found.append(sample_of("no_points", coords, points[:0]))
        found.append(sample_of("nowhere", coords, points + 100, renormalize=True))
        return found

    @staticmethod
    def call(sample):
        feats, coords, points = (sample.tensors[n] for n in ("feats", "coords", "points"))
        points = points.to(torch.float64 if points.dtype == torch.float64 else torch.float32)
        return (ops.weighted_gather(feats, ops.make_interpolation_plan(coords, points, **sample.options)),)

    @staticmethod
    def oracle(sample):
        tensors = (sample.tensors[n].numpy() for n in ("feats", "coords", "points"))
        options = {"mode": "linear", "renormalize": False} | sample.options
        return (oracles_pool.interpolate(*tensors, **options),)

    @staticmethod
    def overloads(sample):
        return []  # registers no operator: tests/ops/test_weighted_gather.py

    @staticmethod
    def mistakes():
        coords, points = CLOUDS["one"], torch.zeros(2, 4)

        def call(coords=coords, points=points, **options):
            return lambda: ops.make_interpolation_plan(coords, points, **options)

        return [
            Mistake("mode", call(mode="cubic"), ValueError, "mode must be one of linear, nearest, got 'cubic'"),
            Mistake("columns", call(points=torch.zeros(2, 3)), ValueError, r"points must be \(P, 4\), got \(2, 3\)"),
            Mistake("half", call(points=points.half()), ValueError, "points must be float32 or float64"),
            Mistake("int", call(points=points.int()), TypeError, "points must have a floating point dtype"),
            Mistake("repeated", call(coords=coords.repeat(2, 1)), ValueError, "row 1"),
            Mistake("device", call(points=points.to("meta")), ValueError, "points must be on cpu"),
        ]


def test_a_full_grid_is_sampled_as_by_torch(device):
    shape = (3, 4, 5)
    grid = torch.randn(2, 6, *shape, dtype=torch.float64)
    coords = torch.cartesian_prod(*[torch.arange(n, dtype=torch.int32) for n in (2, *shape)]).to(device)
    feats = grid.permute(0, 2, 3, 4, 1).reshape(-1, 6).to(device)
    size = torch.tensor(shape, dtype=torch.float64)
    xyz = torch.rand(2, 20, 3, dtype=torch.float64) * (size + 1) - 1  # some outside
    batch = torch.arange(2, dtype=torch.float64).view(2, 1, 1).expand(2, 20, 1)
    points = torch.cat([batch, xyz], 2).reshape(-1, 4).to(device)
    place = (2 * xyz / (size - 1) - 1).flip(-1).view(2, 20, 1, 1, 3)  # torch counts from -1 to 1, last axis first
    for mode, theirs in (("linear", "bilinear"), ("nearest", "nearest")):
        got = ops.weighted_gather(feats, ops.make_interpolation_plan(coords, points, mode=mode))
        wanted = F.grid_sample(grid, place, mode=theirs, padding_mode="zeros", align_corners=True)
        torch.testing.assert_close(got.cpu().view(2, 20, 6), wanted[..., 0, 0].transpose(1, 2))


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_voxels_at_the_limits_of_the_key_are_found(dims, mode):
    coords = limit_coords(dims)
    feats = torch.randn(len(coords), 2)
    plan = ops.make_interpolation_plan(coords, coords.double(), mode=mode)
    assert torch.equal(ops.weighted_gather(feats, plan), feats)


def test_points_that_are_nowhere_find_nothing_and_spoil_no_gradient(device):
    coords = coords_of((0, -131072, 0, 131071), (1022, 0, 0, 0)).to(device)
    feats = torch.ones(2, 2, device=device, requires_grad=True)
    far = [1e30, torch.inf, -torch.inf, torch.nan, 131072.0, -131073.5]
    rows = [[0.0, v, 0.0, 0.0] for v in far] + [[b, 0.0, 0.0, 0.0] for b in (-1.0, 1023.0, torch.nan)]
    rows += [[0.0, -131072.0, 0.0, 131071.0], [1022.0, 0.0, 0.25, 0.0]]
    points = torch.tensor(rows, device=device, requires_grad=True)
    for mode, last in (("linear", 0.75), ("nearest", 1.0)):
        plan = ops.make_interpolation_plan(coords, points, mode=mode)
        out = ops.weighted_gather(feats, plan)
        assert torch.equal(out[:, 0].detach().cpu(), torch.tensor([0.0] * 9 + [1.0, last]))
    for renormalize, last in ((False, 0.75), (True, 1.0)):
        plan = ops.make_interpolation_plan(coords, points, renormalize=renormalize)
        assert plan.weights.isfinite().all()
        out = ops.weighted_gather(feats, plan).sum()
        to_feats, to_points = torch.autograd.grad(out, [feats, points])
        assert torch.equal(to_points[:9], torch.zeros_like(to_points[:9])) and to_points.isfinite().all()
        assert torch.equal(to_feats.cpu(), torch.tensor([[1.0, 1.0], [last, last]]))


def test_points_have_second_derivatives():
    coords = random_coords(60, low=-1, high=1)
    feats = torch.randn(len(coords), 2, dtype=torch.float64, requires_grad=True)
    points = points_among(coords, 4).double().requires_grad_()

    def run(feats, points):
        return ops.weighted_gather(feats, ops.make_interpolation_plan(coords, points, renormalize=True))

    assert_twice_differentiable(run, [feats, points])


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_a_point_on_a_voxel_reads_it_alone(mode):
    coords = random_coords(60)
    feats = torch.randn(len(coords), 4)
    plan = ops.make_interpolation_plan(coords, coords.float(), mode=mode)
    assert torch.equal(ops.weighted_gather(feats, plan), feats)
    assert plan.rows.shape == plan.weights.shape == (len(coords), 1 if mode == "nearest" else 8)
