# SPDX-License-Identifier: Apache-2.0
"""Each instruction set that this processor has, and what its kernels do at the edges of their tiles and blocks."""

import pytest
import torch

from pcperc import ops
from tests import oracles
from tests.ops.clouds import random_coords
from tests.ops.test_kernel_map import GEOMETRIES
from tests.tolerances import tolerances

BEST = ops.cpu_capability()
NAMES = ("base", "avx2", "avx512", "avx512_bf16")
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture(params=NAMES)
def capability(request):
    if NAMES.index(request.param) > NAMES.index(BEST):
        pytest.skip(f"CPU: no {request.param}")
    ops.set_cpu_capability(request.param)
    yield request.param
    ops.set_cpu_capability(BEST)


def random_table(taps: int, rows: int, num_in: int, share: float = 0.3) -> torch.Tensor:
    """(taps, rows) int32 with a share of neighbours; one tap has all, one none."""
    table = torch.randint(num_in, (taps, rows), dtype=torch.int32)
    table[torch.rand(taps, rows) > share] = -1
    table[0], table[-1] = torch.randint(num_in, (rows,), dtype=torch.int32), -1
    return table


# (Cin, Cout, groups): one to nine vectors of columns, whole and ragged; odd channels; depthwise, whole and ragged.
SHAPES = [
    *[(16, 16, 1), (7, 9, 1), (1, 1, 1), (6, 32, 1), (32, 48, 1), (10, 64, 1), (64, 72, 1), (20, 144, 1)],
    *[(32, 32, 2), (12, 20, 4), (15, 15, 3), (16, 16, 16), (83, 83, 83)],
]


@pytest.mark.parametrize(("cin", "cout", "groups"), SHAPES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_tile_equals_the_oracle(cin, cout, groups, dtype, capability):
    table = random_table(5, 83, 60)
    feats, residual = torch.randn(60, cin).to(dtype), torch.randn(83, cout).to(dtype)
    weight, bias = torch.randn(5, cin // groups, cout).to(dtype), torch.randn(cout).to(dtype)
    options = {"groups": groups, "negative_slope": 0.25}
    out = ops.sparse_conv_fused(feats, weight, table, bias, residual, **options)
    doubles = [t.double().numpy() for t in (feats, weight, bias, residual)]
    expected = oracles.sparse_conv_fused(*doubles[:2], table.numpy(), *doubles[2:], **options)
    limits = tolerances(dtype, 5 * cin // groups + 2)
    torch.testing.assert_close(out.double(), torch.from_numpy(expected), **limits)
    grads = torch.ops.pcperc.sparse_conv_weight_grad(feats, residual, table, None, True, groups)
    summed = tolerances(torch.float64 if dtype == torch.float64 else torch.float32, 83)
    for got, wanted in zip(grads, weight_grads(feats.double(), residual.double(), table, groups), strict=True):
        torch.testing.assert_close(got.double(), wanted, **summed)


def weight_grads(feats, grad, table, groups):
    """Gradients of weight and bias, tap by tap."""
    by_tap = []
    for row in table:
        left, right = feats[row[row >= 0]], grad[row >= 0]
        parts = [a.T @ b for a, b in zip(left.chunk(groups, 1), right.chunk(groups, 1), strict=True)]
        by_tap.append(torch.cat(parts, 1))
    return torch.stack(by_tap), grad.sum(0)


@pytest.mark.parametrize(("cin", "cout", "groups"), [(4, 8, 1), (6, 6, 6), (6, 6, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_many_blocks_have_the_same_bits_for_every_number_of_threads(cin, cout, groups, dtype, capability):
    rows = 9000  # several blocks of rows, several splits of the weight gradient
    table = random_table(3, rows, rows)
    feats, grad = torch.randn(rows, cin).to(dtype), torch.randn(rows, cout).to(dtype)
    weight = torch.randn(3, cin // groups, cout).to(dtype)

    def run():
        out = torch.ops.pcperc.sparse_conv(feats, weight, table, None, None, groups)
        return [out, *torch.ops.pcperc.sparse_conv_weight_grad(feats, grad, table, None, True, groups)]

    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(run())
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for got, wanted in zip(other, results[0], strict=True):
            assert torch.equal(got, wanted)
    expected = weight_grads(feats.double(), grad.double(), table, groups)
    for got, wanted in zip(results[0][1:], expected, strict=True):
        torch.testing.assert_close(got.double(), wanted, **tolerances(torch.float32, rows))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("entry", [-(2**31), -2, 60, 2**31 - 1])
def test_entries_that_are_no_row_count_as_absent(entry, groups, dtype, capability):
    table = random_table(5, 83, 60)
    feats, grad = torch.randn(60, 8).to(dtype), torch.randn(83, 8).to(dtype)
    weight = torch.randn(5, 8 // groups, 8).to(dtype)

    def run(neighbors):
        out = torch.ops.pcperc.sparse_conv(feats, weight, neighbors, None, None, groups)
        return [out, *torch.ops.pcperc.sparse_conv_weight_grad(feats, grad, neighbors, None, False, groups)]

    for got, wanted in zip(run(table.masked_fill(table < 0, entry)), run(table), strict=True):
        assert torch.equal(got, wanted)


def test_a_row_does_not_depend_on_the_rows_beside_it(capability):
    """Whatever tile and block a row falls into, its bits are the same."""
    coords = random_coords(700, low=-6, high=6)
    neighbors = ops.build_kernel_map(coords, coords, **GEOMETRIES["subm_k3"])
    feats, weight = torch.randn(len(coords), 24), torch.randn(27, 24, 40)
    out = ops.sparse_conv(feats, weight, neighbors)
    some = torch.randperm(len(coords))[:101]
    assert torch.equal(ops.sparse_conv(feats, weight, neighbors[:, some]), out[some])


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("groups", [1, 4])
def test_no_rows(shape, groups, capability):
    num_in, num_out = shape
    table = torch.full((2, num_out), -1, dtype=torch.int32)
    feats, bias = torch.randn(num_in, 4), torch.randn(4)
    out = ops.sparse_conv(feats, torch.randn(2, 4 // groups, 4), table, bias=bias, groups=groups)
    assert torch.equal(out, bias.expand(num_out, 4))
    grads = torch.ops.pcperc.sparse_conv_weight_grad(feats, torch.ones(num_out, 4), table, None, True, groups)
    assert torch.equal(grads[0], torch.zeros(2, 4 // groups, 4))
    assert torch.equal(grads[1], torch.full((4,), float(num_out)))


def test_names_of_capabilities():
    assert BEST in NAMES
    with pytest.raises(ValueError, match="set_cpu_capability: name must be one of base to .*, got fast"):
        ops.set_cpu_capability("fast")
    with pytest.raises(TypeError, match="set_cpu_capability: name must be a string, got int"):
        ops.set_cpu_capability(512)
    assert ops.cpu_capability() == BEST
