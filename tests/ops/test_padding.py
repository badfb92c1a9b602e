# SPDX-License-Identifier: Apache-2.0
"""Rows of batch index -1, and operators that return a given number of rows: as without padding, on CPU and GPU."""

import pytest
import torch

from pcperc import ops
from tests.ops.clouds import coords_of, random_coords

STRIDED = [
    dict(kernel_size=2, stride=2),
    dict(kernel_size=3, stride=2, padding=1),
    dict(kernel_size=3, stride=2, padding=1, spatial_shape=9),
]
MAPS = [
    dict(kernel_size=3, padding=1),
    dict(kernel_size=2, stride=2),
    dict(kernel_size=3, stride=2, padding=1),
    dict(kernel_size=5, padding=2),
    dict(kernel_size=3, padding=2, dilation=2),
    dict(kernel_size=2, padding=0),
]


def with_padding(coords, seed=0):
    """The rows with padding among them, whose other columns are anything; and where the rows went."""
    generator = torch.Generator().manual_seed(seed)
    count = len(coords) + 30
    place = torch.randperm(count, generator=generator)[: len(coords)].sort().values
    padded = torch.randint(-(1 << 20), 1 << 20, (count, coords.shape[1]), generator=generator).int()
    padded[:, 0] = -1
    padded[15] = coords_of((-1, 131071, 131071, 131071))[0, : coords.shape[1]] if coords.shape[1] <= 4 else padded[15]
    padded[place] = coords
    return padded, place


def behind(coords, capacity):
    """The rows with padding behind them, as operators with a capacity write it."""
    padding = torch.zeros(capacity - len(coords), coords.shape[1], dtype=torch.int32)
    padding[:, 0] = -1
    return torch.cat([coords, padding])


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
def test_padding_is_passed_over(dims, device):
    coords = torch.cat(
        [random_coords(120, dims=dims, low=0, high=8), random_coords(40, dims=dims, low=0, high=8, seed=1)]
    )
    padded, place = with_padding(coords)
    unique, inverse, counts = ops.unique_coords(coords)
    found = ops.unique_coords(padded.to(device))
    assert torch.equal(found.coords.cpu(), unique)
    assert torch.equal(found.counts.cpu(), counts)
    expected = torch.full((len(padded),), -1)
    expected[place] = inverse
    assert torch.equal(found.inverse.cpu(), expected)
    for options in STRIDED:
        found = ops.downsample_coords(padded.to(device), **options)
        assert torch.equal(found.cpu(), ops.downsample_coords(coords, **options))
    found = ops.upsample_coords(padded.to(device), kernel_size=2, stride=2)
    assert torch.equal(found.cpu(), ops.upsample_coords(coords, kernel_size=2, stride=2))


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("options", MAPS, ids=str)
def test_padding_has_no_neighbours_and_is_none(dims, check, options, device):
    coords = random_coords(150, dims=dims)
    padded, place = with_padding(coords)
    padded = padded.to(device)
    others, other_place = with_padding(ops.downsample_coords(coords, kernel_size=2, stride=2), seed=1)
    plain = others[other_place]
    for out_coords, rows, unpadded in ((padded, place, coords), (others.to(device), other_place, plain)):
        table = ops.build_kernel_map(padded, out_coords, **options, check=check).cpu()
        expected = torch.full_like(table, -1)
        neighbors = ops.build_kernel_map(coords, unpadded, **options)
        expected[:, rows] = torch.where(neighbors < 0, -1, place.int()[neighbors.long()])
        assert torch.equal(table, expected)


def test_nothing_but_padding(device):
    coords = coords_of((-1, 0, 0, 0), (-1, 0, 0, 0), (-1, 5, 5, 5)).to(device)
    unique, inverse, counts = ops.unique_coords(coords)
    assert unique.shape == (0, 4) and counts.shape == (0,) and inverse.tolist() == [-1, -1, -1]
    assert ops.downsample_coords(coords, kernel_size=2, stride=2).shape == (0, 4)
    assert (ops.build_kernel_map(coords, coords, kernel_size=3, padding=1) == -1).all()
    found = ops.downsample_coords(coords, kernel_size=2, stride=2, capacity=2)
    assert torch.equal(found.coords.cpu(), behind(coords_of(), 2)) and not found.incomplete


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
@pytest.mark.parametrize("spare", [0, 1, 100])
def test_capacities(dims, spare, device):
    coords = torch.cat(
        [random_coords(90, dims=dims, low=0, high=8), random_coords(90, dims=dims, low=0, high=8, seed=1)]
    )
    padded = with_padding(coords)[0].to(device)
    plain = ops.unique_coords(padded)
    capacity = len(plain.coords) + spare
    found = ops.unique_coords(padded, capacity=capacity)
    assert torch.equal(found.coords.cpu(), behind(plain.coords.cpu(), capacity))
    assert torch.equal(found.inverse, plain.inverse)
    assert torch.equal(found.counts.cpu(), torch.cat([plain.counts.cpu(), torch.zeros(spare).long()]))
    assert found.incomplete.shape == () and not found.incomplete
    for options in STRIDED:
        expected = ops.downsample_coords(padded, **options).cpu()
        capacity = len(expected) + spare
        found = ops.downsample_coords(padded, **options, capacity=capacity)
        assert torch.equal(found.coords.cpu(), behind(expected, capacity))
        assert not found.incomplete


def test_no_rows_but_a_capacity(device):
    found = ops.unique_coords(coords_of().to(device), capacity=3)
    assert torch.equal(found.coords.cpu(), behind(coords_of(), 3))
    assert found.counts.tolist() == [0, 0, 0] and found.inverse.shape == (0,) and not found.incomplete


def test_negative_coords_with_a_capacity(device):
    coords = random_coords(100, low=-70, high=70)
    expected = ops.downsample_coords(coords, kernel_size=2, stride=2)
    found = ops.downsample_coords(coords.to(device), kernel_size=2, stride=2, capacity=len(coords))
    assert torch.equal(found.coords.cpu(), behind(expected, len(coords)))


def test_more_rows_than_the_capacity_are_reported(device):
    coords = random_coords(100).to(device)
    unique = {tuple(row) for row in coords.tolist()}
    found = ops.unique_coords(coords, capacity=40)
    assert found.incomplete
    kept = {tuple(row) for row in found.coords.tolist()}
    assert len(kept) == 40 and kept < unique
    named = found.inverse >= 0
    assert torch.equal(found.inverse[named].bincount(minlength=40), found.counts)
    assert torch.equal(found.coords[found.inverse[named]], coords[named])
    assert ops.downsample_coords(coords, kernel_size=2, stride=2, capacity=3).incomplete


@pytest.mark.parametrize("bad", [(-2, 0, 0, 0), (0, 1 << 20, 0, 0)])
def test_rows_out_of_range_are_left_out_of_a_capacity(bad, device):
    coords = torch.cat([random_coords(30), coords_of(bad)]).to(device)
    for function, options in ((ops.unique_coords, {}), (ops.downsample_coords, dict(kernel_size=2, stride=2))):
        expected = function(coords[:-1], **options, capacity=50).coords
        found = function(coords, **options, capacity=50)
        assert found.incomplete and torch.equal(found.coords, expected)


@pytest.mark.parametrize("overload", ["unique_coords_padded", "downsample_coords_padded"])
def test_registered_operators_with_a_capacity(overload, device):
    coords = random_coords(50).to(device)
    axes = () if overload.startswith("unique") else ([2] * 3, [2] * 3, [0] * 3, [1] * 3, [])
    torch.library.opcheck(getattr(torch.ops.pcperc, overload).default, (coords, *axes, 60))


@pytest.mark.gpu
def test_captured_in_a_graph():
    """One graph, captured on some rows, replayed on others: the maps of an encoder of two levels."""
    capacity, spare = 600, 1500
    clouds = [random_coords(count, low=-9, high=9, seed=seed) for seed, count in enumerate((500, 3, 590, 0))]
    static = behind(clouds[0], capacity).cuda()

    def encode():
        fine = ops.unique_coords(static, capacity=capacity)
        coarse = ops.downsample_coords(fine.coords, kernel_size=3, stride=2, padding=1, capacity=capacity + spare)
        down = ops.build_kernel_map(fine.coords, coarse.coords, kernel_size=3, stride=2, padding=1, check=False)
        return (
            *fine,
            *coarse,
            ops.build_kernel_map(fine.coords, fine.coords, kernel_size=3, padding=1, check=False),
            ops.build_kernel_map(coarse.coords, coarse.coords, kernel_size=5, padding=2, check=False),
            down,
            ops.reverse_kernel_map(down, num_inputs=capacity, check=False),
            *ops.order_rows(down),
        )

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        encode()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = encode()
    for cloud in (*clouds, clouds[0]):
        static.copy_(behind(cloud, capacity))
        graph.replay()
        for got, wanted in zip(results, encode(), strict=True):
            assert torch.equal(got, wanted)
        assert not results[3] and not results[5]
        assert torch.equal(results[0][: len(cloud)].cpu(), ops.unique_coords(cloud).coords)
