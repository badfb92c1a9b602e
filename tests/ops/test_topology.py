# SPDX-License-Identifier: Apache-2.0
"""The operators on coordinates together, by property: any geometry, any rows within the limits, 1 to 4 axes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc import ops
from tests import oracles, oracles_topology
from tests.ops.clouds import KEY_LIMITS, coords_of, limit_coords, random_coords
from tests.ops.strategies import clouds, extreme_geometries, for_every_dims, geometries

PARAMETERS = ("kernel_size", "stride", "padding", "dilation")


def sizes(dims):
    return st.tuples(*[st.integers(1, 9)] * dims)


@settings(max_examples=80, deadline=None)
@given(for_every_dims(lambda dims: clouds(dims, margin=20), lambda dims: clouds(dims, margin=20), geometries))
def test_every_geometry_agrees_with_the_formula(case):
    coords, others, geometry = case
    coarse = ops.downsample_coords(coords, **geometry)
    assert np.array_equal(coarse.numpy(), oracles.downsample_coords(coords, **geometry))
    for out_coords in (coarse, others, coords):
        table = ops.build_kernel_map(coords, out_coords, **geometry)
        assert np.array_equal(table.numpy(), oracles.kernel_map(coords, out_coords, **geometry))
        reverse = ops.reverse_kernel_map(table, num_inputs=len(coords))
        assert np.array_equal(reverse.numpy(), oracles_topology.reverse_kernel_map(table.numpy(), len(coords)))


@settings(max_examples=60, deadline=None)
@given(for_every_dims(lambda dims: clouds(dims, max_size=3), lambda dims: clouds(dims, max_size=3), extreme_geometries))
def test_maps_of_extreme_geometries(case):
    coords, others, geometry = case
    table = ops.build_kernel_map(coords, others, **geometry)
    assert np.array_equal(table.numpy(), oracles.kernel_map(coords, others, **geometry))


@settings(max_examples=100, deadline=None)
@given(
    for_every_dims(lambda dims: clouds(dims, unique=False), geometries)
    | for_every_dims(lambda dims: clouds(dims, max_size=3), extreme_geometries)
)
def test_every_output_that_has_a_key_is_reached(case):
    """Both directions agree with the sets of the oracle, or say that an output lies beyond the limits."""
    coords, geometry = case
    _, low, high = KEY_LIMITS[coords.shape[1] - 1]
    for name, oracle in (
        ("downsample_coords", oracles.downsample_coords),
        ("upsample_coords", oracles_topology.upsample_coords),
    ):
        expected = oracle(coords, **geometry)
        if ((expected[:, 1:] >= low) & (expected[:, 1:] <= high)).all():
            assert np.array_equal(getattr(ops, name)(coords, **geometry).numpy(), expected)
        else:
            with pytest.raises(ValueError, match=rf"{name}: coords row \d+ = .* outside \[{low}, {high}\]"):
                getattr(ops, name)(coords, **geometry)


@settings(max_examples=40, deadline=None)
@given(for_every_dims(clouds, geometries, sizes))
def test_borders_drop_what_lies_outside(case):
    coords, geometry, shape = case
    coords[:, 1:] = coords[:, 1:] % torch.tensor(shape)
    expected = oracles.downsample_coords(coords, **geometry, spatial_shape=shape)
    assert np.array_equal(ops.downsample_coords(coords, **geometry, spatial_shape=shape).numpy(), expected)
    expected = oracles_topology.upsample_coords(coords, **geometry, output_shape=shape)
    assert np.array_equal(ops.upsample_coords(coords, **geometry, output_shape=shape).numpy(), expected)


@settings(max_examples=60, deadline=None)
@given(for_every_dims(clouds), st.integers(0, 1), st.sampled_from([1, 3]), st.integers(1, 3))
def test_submanifold_maps_at_the_limits(coords, rolled, kernel_size, dilation):
    """Taps that reach beyond the limits meet nothing, neither on the far side nor in the next axis or batch item."""
    dims = coords.shape[1] - 1
    values = (kernel_size, 1, dilation * (kernel_size - 1) // 2, dilation)
    geometry = {name: (value,) * dims for name, value in zip(PARAMETERS, values, strict=True)}
    out_coords = coords.roll(rolled, 0)  # the same tensor where rolled is 0: half of the taps are then mirrored
    table = ops.build_kernel_map(coords, out_coords if rolled else coords, **geometry)
    assert np.array_equal(table.numpy(), oracles.kernel_map(coords, out_coords, **geometry))


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
def test_wraps_nowhere(dims):
    coords = limit_coords(dims)
    geometry = dict(kernel_size=(3,) * dims, stride=(1,) * dims, padding=(1,) * dims, dilation=(1,) * dims)
    table = ops.build_kernel_map(coords, coords, **geometry)
    assert np.array_equal(table.numpy(), oracles.kernel_map(coords, coords, **geometry))


@settings(max_examples=40, deadline=None)
@given(for_every_dims(lambda dims: clouds(dims, max_size=30, unique=False)))
def test_any_coords_sort_lexicographically(coords):
    result = ops.unique_coords(coords)
    for got, wanted in zip(result, oracles.unique_coords(coords.numpy()), strict=True):
        assert np.array_equal(got.numpy(), wanted)
    assert torch.equal(result.coords[result.inverse], coords)


@settings(max_examples=40, deadline=None)
@given(for_every_dims(clouds), st.data())
def test_the_first_row_beyond_the_limits_is_named(coords, data):
    dims = coords.shape[1] - 1
    batch, low, high = KEY_LIMITS[dims]
    rows = coords.tolist() or [[0] * (1 + dims)]
    first = data.draw(st.integers(0, len(rows) - 1))
    for row in (first, len(rows) - 1):
        column = data.draw(st.integers(0, dims))
        int32 = (-(2**31), 2**31 - 1)
        rows[row][column] = data.draw(
            st.sampled_from((-2, batch + 1, *int32) if column == 0 else (low - 1, high + 1, *int32))
        )
    coords = coords_of(*rows, dims=dims)
    one, text = dict(kernel_size=1), rf"coords row {first} = .* \[0, {batch}\] .* \[{low}, {high}\]"
    good = coords_of((0, *[0] * dims), dims=dims)
    for call in (
        lambda: ops.unique_coords(coords),
        lambda: ops.downsample_coords(coords, **one),
        lambda: ops.upsample_coords(coords, **one),
        lambda: ops.build_kernel_map(coords, good, **one),
        lambda: ops.build_kernel_map(good, coords, **one),
        lambda: ops.build_kernel_map(coords, coords, **one),
    ):
        with pytest.raises(ValueError, match=text):
            call()


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_wrong_row_is_named_whichever_thread_finds_one_last(threads):
    coords = random_coords(60_000, low=-30, high=30)
    good = coords[:10].clone()
    coords[[100, -1], 1] = KEY_LIMITS[3][2] + 1
    table = torch.full((3, 30_000), -1, dtype=torch.int32)
    table[0, 100] = table[2, -1] = 7
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for call in (
            lambda: ops.unique_coords(coords),
            lambda: ops.downsample_coords(coords, kernel_size=1),
            lambda: ops.upsample_coords(coords, kernel_size=1),
            lambda: ops.build_kernel_map(coords, good, kernel_size=1),
            lambda: ops.build_kernel_map(good, coords, kernel_size=1),
        ):
            with pytest.raises(ValueError, match="coords row 100 = "):
                call()
        with pytest.raises(ValueError, match=r"neighbors\[0, 100\] = 7 must be less than"):
            ops.reverse_kernel_map(table, num_inputs=7)
    finally:
        torch.set_num_threads(before)


@settings(max_examples=30, deadline=None)
@given(for_every_dims(clouds).filter(len), st.data())
def test_the_first_repeated_row_is_named(coords, data):
    again = data.draw(st.lists(st.integers(0, len(coords) - 1), min_size=1, max_size=4))
    rows = torch.cat([coords, coords[again]])
    for out_coords in (rows, coords):
        with pytest.raises(ValueError, match=rf"in_coords row {len(coords)} = .* repeats an earlier row"):
            ops.build_kernel_map(rows, out_coords, kernel_size=3, padding=1)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_same_rows_for_every_number_of_threads(threads):
    coords = random_coords(60_000, low=-30, high=30)
    strided, centred = dict(kernel_size=3, stride=2, padding=1), dict(kernel_size=3, padding=1)

    def results():
        coarse = ops.downsample_coords(coords, **strided)
        table = ops.build_kernel_map(coords, coarse, **strided)
        return [
            *ops.unique_coords(torch.cat([coords, coords[::3]])),
            coarse,
            table,
            ops.reverse_kernel_map(table, num_inputs=len(coords)),
            ops.upsample_coords(coarse[:5000], **strided),
            ops.build_kernel_map(coords, coords, **centred),
            ops.build_kernel_map(coarse, coords, **centred),
        ]

    before = torch.get_num_threads()
    expected = results()
    torch.set_num_threads(threads)
    try:
        for got, wanted in zip(results(), expected, strict=True):
            assert torch.equal(got, wanted)
    finally:
        torch.set_num_threads(before)


def test_unchecked_maps_of_good_rows_are_the_same(device):
    coords = random_coords(200).to(device)
    geometry = dict(kernel_size=3, stride=2, padding=1)
    coarse = ops.downsample_coords(coords, **geometry)
    for out_coords, parameters in ((coarse, geometry), (coords, dict(kernel_size=3, padding=1))):
        table = ops.build_kernel_map(coords, out_coords, **parameters)
        assert torch.equal(ops.build_kernel_map(coords, out_coords, **parameters, check=False), table)
        reverse = ops.reverse_kernel_map(table, num_inputs=len(coords))
        assert torch.equal(ops.reverse_kernel_map(table, num_inputs=len(coords), check=False), reverse)


@pytest.mark.gpu
@pytest.mark.parametrize("bad", [(0, 1, 1, 1), (0, 0, 0, 1 << 20), (-2, 0, 0, 0)])
def test_unchecked_maps_of_bad_rows_point_at_rows(bad):
    coords = coords_of((0, 1, 1, 1), (0, 1, 1, 2), bad).cuda()
    for out_coords in (coords, coords.clone()):
        table = ops.build_kernel_map(coords, out_coords, kernel_size=3, padding=1, check=False)
        assert ((table >= -1) & (table < len(coords))).all()
        reverse = ops.reverse_kernel_map(table + 1, num_inputs=len(coords), check=False)
        assert ((reverse >= -1) & (reverse < len(coords))).all()
