# SPDX-License-Identifier: Apache-2.0
"""Plans of points that are not in cells, and their weights with and without gradients."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc import ops
from tests.ops.clouds import random_coords
from tests.ops.test_point_cells import DTYPES, quarters, spread
from tests.tolerances import tolerances


@pytest.mark.parametrize("renormalize", [False, True], ids=["plain", "renormalized"])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("dims", [1, 2, 3, 4])
@DTYPES
def test_a_plan_scales_points_as_by_hand(dtype, dims, mode, renormalize, device):
    coords = random_coords(300, dims=dims, low=-2, high=1).to(device)
    limits = tolerances(dtype, 2**dims)
    for stride, shift, quantized in itertools.product((1, 3, tuple(range(2, 2 + dims))), (0.0, 0.5), (False, True)):
        points = quarters(150, dims=dims, reach=3.0 * min(spread(stride, dims)))
        xyz = points[:, 1:].floor() if quantized else points[:, 1:]
        by_hand = torch.cat([points[:, :1], xyz / torch.tensor(spread(stride, dims)) - shift], 1).to(device)
        wanted = ops.make_interpolation_plan(coords, by_hand, mode=mode, renormalize=renormalize)
        options = dict(stride=stride, shift=shift, quantized=quantized, mode=mode, renormalize=renormalize)
        for needs_gradient in (False, True):
            leaf = points.to(device, dtype).requires_grad_(needs_gradient)
            found = ops.make_interpolation_plan(coords, leaf, **options)
            assert torch.equal(found.rows, wanted.rows) and found.weights.dtype == dtype
            torch.testing.assert_close(found.weights.detach().double(), wanted.weights, **limits)
        assert (wanted.rows >= 0).any() and (wanted.rows < 0).any()


@given(
    st.integers(1, 4),
    st.integers(0, 2**31),
    st.sampled_from([1, 2, 3, 7]),
    st.sampled_from([0.0, 0.5]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([torch.float64, torch.float32]),
)
@settings(max_examples=80, deadline=None)
def test_weights_with_and_without_gradients(dims, seed, stride, shift, quantized, renormalize, dtype):
    coords = random_coords(20 * dims, dims=dims, low=-2, high=2, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    sixteenths = torch.randint(-40 * stride, 40 * stride, (60, dims), generator=generator)
    batch = torch.randint(-1, 3, (60, 1), generator=generator)
    points = torch.cat([batch, sixteenths / 16], 1).to(dtype)
    points[::9, -1] = torch.nan
    options = dict(stride=stride, shift=shift, quantized=quantized)
    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        known, leaf = coords.to(device), points.to(device)
        plain = ops.make_interpolation_plan(known, leaf, renormalize=renormalize, **options)
        assert not plain.weights.requires_grad
        other = ops.make_interpolation_plan(known, leaf.clone().requires_grad_(), renormalize=renormalize, **options)
        assert other.weights.requires_grad and torch.equal(plain.rows, other.rows)
        torch.testing.assert_close(plain.weights, other.weights.detach(), **tolerances(dtype, 2**dims))
        if renormalize:
            parts = ops.make_interpolation_plan(known, leaf, **options).weights
            any_weight = ((plain.rows >= 0) & (parts > 0)).any(1)
            for weights in (plain.weights, other.weights.detach()):
                assert not weights[plain.rows < 0].any() and not weights[~any_weight].any()
                total = weights.sum(1)[any_weight]
                torch.testing.assert_close(total, torch.ones_like(total), **tolerances(dtype, 2**dims))


@DTYPES
@pytest.mark.parametrize("needs_gradient", [False, True], ids=["plain", "with_gradient"])
def test_a_point_on_a_missing_voxel_takes_nothing_from_those_beside_it(needs_gradient, dtype, device):
    # Multiplied by 1 / stride, as torch divides by a number on a GPU, some of these points lie beside their voxel.
    places = torch.arange(60, device=device)
    coords = torch.stack([places, places + 1], 1).int()
    for stride in (3, 7, 15, 41, 49, 75):
        points = torch.stack([places, places * stride], 1).to(dtype)
        leaf = points.requires_grad_(needs_gradient)
        plan = ops.make_interpolation_plan(coords, leaf, stride=stride, renormalize=True)
        assert plan.rows[:, 0].eq(-1).all() and plan.rows[:, 1].ge(0).all()
        assert not plan.weights.any(), stride


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_renormalized_weights_of_missing_voxels_are_zero(mode, device):
    coords, points = (
        torch.tensor([[0, 0, 0]]).int().to(device),
        torch.tensor([[0.0, 0.2, 0.3], [0, 5, 5]], device=device),
    )
    for renormalize in (False, True):
        plan = ops.make_interpolation_plan(coords, points, mode=mode, renormalize=renormalize)
        assert plan.weights.sum(1).tolist() == pytest.approx([1.0, 0.0 if renormalize else 1.0])
