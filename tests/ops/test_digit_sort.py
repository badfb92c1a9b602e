# SPDX-License-Identifier: Apache-2.0
"""New voxels and row orders from keys of few and of all bits, at the sizes where a GPU cuts them otherwise."""

import pytest
import torch

from pcperc import ops
from tests.ops.clouds import KEY_LIMITS, coords_of
from tests.ops.test_order_rows import random_table
from tests.ops.test_padding import behind

# Digits of 1 to 8 passes of a sort, and the border between keys of 32 and of 64 bits.
BITS = [0, 1, 9, 10, 18, 27, 32, 33, 45, 55, 64]
# Chunks of 512 keys up to 8,192 keys, then of 1,024 up to 32,768, of 2,048 up to 131,072: one key less or more.
COUNTS = [1, 2, 511, 512, 513, 8_192, 8_193, 32_769]


def spread_coords(count, bits, *, dims=3, seed=0):
    """(count, 1 + dims) int32 rows whose keys differ in `bits` bits; the first is the lowest, the last the highest."""
    generator = torch.Generator().manual_seed(seed)
    batch, low, high = KEY_LIMITS[dims]
    columns, left = [], bits
    for column in range(dims, -1, -1):
        bottom, top = (low, high) if column else (0, batch)
        used = min(left, (top - bottom).bit_length())
        left -= used
        top = min(top, bottom + (1 << used) - 1)
        values = torch.randint(bottom, top + 1, (count,), generator=generator)
        values[0], values[-1] = bottom, top
        columns.append(values)
    assert left == 0
    return torch.stack(columns[::-1], dim=1).int()


def check_capacity(coords, device, spare):
    """With a capacity the rows of the CPU's operator without one, and padding behind."""
    plain = ops.unique_coords(coords)
    capacity = len(plain.coords) + spare
    for found in (ops.unique_coords(coords.to(device), capacity=capacity), ops.unique_coords(coords.to(device))):
        missing = len(found.coords) - len(plain.coords)
        assert missing == (spare if hasattr(found, "incomplete") else 0)
        assert torch.equal(found.coords.cpu(), behind(plain.coords, len(found.coords)))
        assert torch.equal(found.inverse.cpu(), plain.inverse)
        assert torch.equal(found.counts.cpu(), torch.cat([plain.counts, torch.zeros(missing).long()]))
        assert not getattr(found, "incomplete", False)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("spare", [0, 1, 900])
def test_capacities_of_keys_of_any_bits(bits, spare, device):
    check_capacity(spread_coords(1_700, bits), device, spare)


@pytest.mark.parametrize("bits", [28, 56])
def test_four_axes(bits, device):
    check_capacity(spread_coords(1_700, bits, dims=4), device, 10)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("bits", [26, 64])
def test_sizes_at_the_borders_of_chunks(count, bits, device):
    check_capacity(spread_coords(count, bits), device, 0)


@pytest.mark.gpu
@pytest.mark.parametrize("count", [131_072, 131_073, 1_000_003])
@pytest.mark.parametrize("bits", [30, 64])
def test_many_keys(count, bits):
    check_capacity(spread_coords(count, bits), torch.device("cuda"), 5_000)


@pytest.mark.parametrize("bits", [30, 64])
def test_downsampling_to_a_capacity(bits, device):
    coords = spread_coords(1_500, bits)
    for options in (dict(kernel_size=2, stride=2), dict(kernel_size=1, stride=3)):
        expected = ops.downsample_coords(coords, **options)
        found = ops.downsample_coords(coords.to(device), **options, capacity=2_000)
        assert torch.equal(found.coords.cpu(), behind(expected, 2_000)) and not found.incomplete


@pytest.mark.parametrize("bits", [20, 64])
def test_too_many_keys_for_a_capacity(bits, device):
    coords = spread_coords(20_000, bits).to(device)
    unique = {tuple(row) for row in coords.tolist()}
    found = ops.unique_coords(coords, capacity=9_000)
    rows = [tuple(row) for row in found.coords.tolist()]
    assert found.incomplete and rows == sorted(set(rows)) and len(rows) == 9_000 and set(rows) < unique
    named = found.inverse >= 0
    assert torch.equal(found.inverse[named].bincount(minlength=9_000), found.counts)
    assert torch.equal(found.coords[found.inverse[named]], coords[named])


@pytest.mark.gpu
def test_a_graph_captured_on_keys_of_few_bits_sorts_keys_of_all():
    """Then with no row, with as many as there is room for, with one row many times, and with the first ones again."""
    capacity = 20_000
    clouds = [spread_coords(12_000, bits, seed=bits) for bits in (12, 64, 33)]
    clouds += [coords_of(), spread_coords(capacity, 50), clouds[1][:1].expand(700, -1), clouds[0]]
    static = behind(clouds[0], capacity).cuda()

    def call():
        fine = ops.unique_coords(static, capacity=capacity)
        return *fine, *ops.downsample_coords(fine.coords, kernel_size=2, stride=2, capacity=capacity)

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()
    for cloud in clouds:
        static.copy_(behind(cloud, capacity))
        graph.replay()
        fine = ops.unique_coords(cloud).coords
        coarse = ops.downsample_coords(fine, kernel_size=2, stride=2)
        assert torch.equal(results[0].cpu(), behind(fine, capacity)) and not results[3]
        assert torch.equal(results[4].cpu(), behind(coarse, capacity)) and not results[5]
        for got, wanted in zip(results, call(), strict=True):
            assert torch.equal(got, wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("taps", [0, 1, 9, 27, 33, 125])
@pytest.mark.parametrize("rows", [*COUNTS, 131_073])
def test_row_orders_at_the_borders_of_chunks(taps, rows):
    table = random_table(taps, rows, density=0.2)
    for got, wanted in zip(ops.order_rows(table.cuda()), ops.order_rows(table), strict=True):
        assert torch.equal(got.cpu(), wanted)


@pytest.mark.gpu
def test_orders_on_streams_side_by_side():
    """Kernels whose blocks wait for one another do not wait for those of another stream."""
    tables = [random_table(27, 120_000, density=0.25, seed=seed).cuda() for seed in range(3)]
    expected = [ops.order_rows(table).row_order for table in tables]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in tables]
    results = [[] for _ in tables]
    for _ in range(20):
        for table, stream, found in zip(tables, streams, results, strict=True):
            with torch.cuda.stream(stream):
                found.append(ops.order_rows(table).row_order)
    torch.cuda.synchronize()
    for wanted, found in zip(expected, results, strict=True):
        assert all(torch.equal(order, wanted) for order in found)
