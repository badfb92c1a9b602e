# SPDX-License-Identifier: Apache-2.0
"""The weight gradient on a GPU: its tiles, and how it deals the pairs of a table out to blocks."""

import pytest
import torch

import pcperc.ops  # noqa: F401  (registers the operators)
from tests.oracles_sparse_conv import random_tables
from tests.tolerances import tolerances

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda")
HALF = [torch.float16, torch.bfloat16]
TILES = [-1, 0, 1, 2, 3, 4]
WARPGROUP_TILES = range(100, 106)
HAS_WARPGROUPS = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] == 9


def weight_grad(feats, grad, table, *, groups=1, row_order=None, tile=-1, blocks=0, allow_tf32=True):
    options = (None, True, groups, allow_tf32, row_order, tile, blocks)
    return torch.ops.pcperc.sparse_conv_weight_grad_tiled(feats, grad, table, *options)


def oracle(feats, grad, table, *, groups=1):
    """(K, Cin / groups, Cout) float64, one product a tap."""
    taps = []
    for rows in table.long():
        left, right = feats.double()[rows[rows >= 0]], grad.double()[rows >= 0]
        pieces = zip(left.chunk(groups, 1), right.chunk(groups, 1), strict=True)
        taps.append(torch.cat([a.T @ b for a, b in pieces], 1))
    return torch.stack(taps)


def inputs_of(widths, num_in, num_out, dtype):
    return [torch.randn(n, width, device=CUDA).to(dtype) for n, width in zip((num_in, num_out), widths, strict=True)]


def check(found, feats, grad, table, *, groups=1):
    """Products of half precision are exact in float32, so that only the sums round; TF32 rounds as float16 does."""
    expected = oracle(feats, grad, table, groups=groups)
    dtype = torch.float16 if feats.dtype == torch.float32 else torch.float32
    limits = tolerances(dtype, max((table >= 0).sum(1).max().item(), 1))
    torch.testing.assert_close(found[0].double(), expected, **limits)
    torch.testing.assert_close(found[1].double(), grad.double().sum(0), **tolerances(torch.float32, max(len(grad), 1)))


def uneven_table(taps, num_in, num_out):
    """Taps with all pairs, with none, with one and with some, so that blocks begin and end anywhere in them."""
    table = random_tables(taps, num_in, num_out, density=0.1)[0]
    table[taps // 2] = torch.randint(num_in, (num_out,), dtype=torch.int32)
    table[0] = table[3] = table[4] = table[-1] = -1
    table[1] = -1
    table[1, num_out - 1] = 0
    return table.to(CUDA)


@pytest.mark.parametrize(
    "grouping", [(16, 16, 1), (24, 8, 1), (64, 64, 1), (96, 48, 2), (72, 264, 1), (256, 136, 1)], ids=str
)
@pytest.mark.parametrize("tile", [*TILES, *WARPGROUP_TILES])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
def test_every_tile_over_uneven_taps_in_any_order(dtype, tile, grouping):
    if tile >= 100 and (dtype == torch.float32 or not HAS_WARPGROUPS):
        pytest.skip("GPU: warpgroup products are Hopper's, for half precision")
    *widths, groups = grouping
    table = uneven_table(11, 4000, 5000)
    feats, grad = inputs_of(widths, 4000, 5000, dtype)
    for blocks in (0, 1, 5):
        found = weight_grad(feats, grad, table, groups=groups, tile=tile, blocks=blocks)
        check(found, feats, grad, table, groups=groups)
        again = weight_grad(feats, grad, table, groups=groups, tile=tile, blocks=blocks)
        assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    ordered, order = torch.ops.pcperc.order_rows(table)
    check(
        weight_grad(feats, grad, ordered, groups=groups, tile=tile, row_order=order), feats, grad, table, groups=groups
    )


@pytest.mark.parametrize("widths", [(32, 16), (64, 64), (128, 128), (65, 33)], ids=str)
@pytest.mark.parametrize("rows", [1, 15, 16, 17, 255, 257, 2049])
@pytest.mark.parametrize("dtype", [torch.float64, *HALF], ids=str)
def test_rows_that_no_pair_names_are_not_multiplied(dtype, rows, widths):
    """They hold NaN: a step with fewer pairs than its depth must not multiply what it has not copied."""
    table = torch.full((3, 2 * rows), -1, dtype=torch.int32)
    table[1, 1::2] = torch.randperm(rows).int() * 2
    feats, grad = inputs_of(widths, 2 * rows, 2 * rows, dtype)
    feats[1::2], grad[::2] = torch.nan, torch.nan
    found = weight_grad(feats, grad, table.to(CUDA))[0]
    expected = oracle(feats[::2], grad[1::2], (table[:, 1::2] // 2).to(CUDA))
    torch.testing.assert_close(found.double(), expected, **tolerances(found.dtype, rows))


@pytest.mark.sanitizer
def test_entries_and_columns_that_name_no_row_are_left_out():
    feats, grad = inputs_of((64, 64), 100, 300, torch.float16)
    table = torch.randint(-5, 120, (27, 300), dtype=torch.int32, device=CUDA)
    order = torch.randperm(320, device=CUDA)[:300].int() - 10
    found = weight_grad(feats, grad, table, row_order=order)[0]
    named = (order >= 0) & (order < 300)
    plain = torch.full_like(table, -1)
    plain[:, order[named].long()] = torch.where(table < 100, table, -1)[:, named]
    plain = plain.clamp(min=-1)
    torch.testing.assert_close(found.double(), oracle(feats, grad, plain), **tolerances(torch.float32, 300))


def test_sums_over_many_pairs_in_one_block():
    """More pieces of weights than blocks: one block sums all 100000 pairs of each, and whole numbers come out right."""
    feats = torch.randint(-3, 4, (100000, 1024), device=CUDA).half()
    grad = torch.randint(-3, 4, (100000, 1024), device=CUDA).half()
    table = torch.stack([torch.arange(100000), torch.arange(100000).flip(0)]).int().to(CUDA)
    found = weight_grad(feats, grad, table, tile=2)[0]
    assert torch.equal(found.double(), oracle(feats, grad, table))


def test_tables_with_more_entries_than_are_listed_together():
    taps, rows = 4096, 9001
    feats, grad = inputs_of((16, 16), rows, rows, torch.float16)
    table = torch.randint(-rows, rows, (taps, rows), dtype=torch.int32, device=CUDA)
    found = weight_grad(feats, grad, table)[0]
    sampled = torch.tensor([0, 1, 17, 2047, 2048, 4095], device=CUDA)
    expected = oracle(feats, grad, table[sampled])
    torch.testing.assert_close(found[sampled].double(), expected, **tolerances(torch.float32, rows))


@pytest.mark.sanitizer
@pytest.mark.parametrize("widths", [(3, 5), (16, 24), (17, 65), (128, 256)], ids=str)
@pytest.mark.parametrize("rows", [(0, 7), (7, 0), (0, 0), (7, 9)], ids=str)
def test_without_any_pair(rows, widths):
    feats, grad = inputs_of(widths, *rows, torch.float16)
    table = torch.full((5, rows[1]), -1, dtype=torch.int32, device=CUDA)
    found = weight_grad(feats, grad, table)
    assert torch.equal(found[0], torch.zeros(5, *widths, device=CUDA))
    torch.testing.assert_close(found[1].double(), grad.double().sum(0), **tolerances(torch.float32, 9))
