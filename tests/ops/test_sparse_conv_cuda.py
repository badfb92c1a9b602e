# SPDX-License-Identifier: Apache-2.0
"""What can go wrong on a GPU alone: tiles, alignment, order of sums, offsets; the rest is tested on both devices."""

import pytest
import torch

from pcperc import ops
from tests.ops.conv_on_cuda import CUDA, DTYPES, FEW_SANITIZED, HALF, WIDTHS, check_against_oracle, inputs_of, run_op
from tests.oracles_sparse_conv import convolve
from tests.tolerances import tolerances

pytestmark = pytest.mark.gpu

GROUPS = [(1, 1, 1), (3, 3, 3), (17, 17, 17), (65, 65, 65), (64, 64, 64), (32, 64, 32), (64, 32, 32), (24, 40, 8)]
GROUPS += [(64, 64, 4), (34, 18, 2), (160, 48, 2), (8, 32, 2)]
TAPS = [1, 8, 27, 33, 125]
ROWS = [(0, 0), (0, 5), (5, 0), (1, 1), (63, 65), (64, 64), (129, 127), (2000, 9001)]


@pytest.mark.parametrize("taps", TAPS)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_width_and_number_of_taps(widths, taps, dtype):
    check_against_oracle(inputs_of(widths, taps, 150, 200, dtype), dtype)


@pytest.mark.parametrize("taps", [8, 27])
@pytest.mark.parametrize("grouping", GROUPS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_grouping(grouping, taps, dtype):
    *widths, groups = grouping
    check_against_oracle(inputs_of(widths, taps, 300, 200, dtype, groups=groups), dtype, groups=groups)


@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("grouping", [(16, 40, 1), (24, 24, 24)], ids=str)
@pytest.mark.parametrize("dtype", FEW_SANITIZED, ids=str)
def test_any_number_of_rows(rows, grouping, dtype):
    *widths, groups = grouping
    check_against_oracle(inputs_of(widths, 9, *rows, dtype, groups=groups), dtype, groups=groups)


@pytest.mark.parametrize("widths", [(16, 72), (64, 128), (96, 264)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
def test_wide_tiles_give_the_bits_of_small_ones(widths, dtype, tf32):
    """The same rows in parts are too few for the widest tiles, but enough that no blocks share one."""
    tf32(True)
    tensors = inputs_of(widths, 8, 20000, 70000, dtype)
    del tensors["reverse_neighbors"]
    whole = ops.sparse_conv(**tensors)
    rows = 4000 if dtype == torch.float32 or widths[0] < 48 else 20000
    parts = tensors["neighbors"].split(rows, dim=1)
    for i, part in enumerate(parts[:3]):
        assert torch.equal(ops.sparse_conv(**tensors | {"neighbors": part}), whole[i * rows : (i + 1) * rows])
    residual = torch.randn_like(whole)
    options = dict(residual=residual, negative_slope=0.25)
    fused = ops.sparse_conv_fused(**tensors, **options)
    expected = torch.nn.functional.leaky_relu(whole.double() + residual, 0.25)
    torch.testing.assert_close(fused.double(), expected, **tolerances(dtype, 4))


@pytest.mark.parametrize("grouping", [(16, 32, 1), (64, 64, 1), (64, 64, 64), (64, 64, 2)], ids=str)
@pytest.mark.parametrize("name", ["feats", "weight", "residual", "bias"])
@pytest.mark.parametrize("dtype", FEW_SANITIZED, ids=str)
def test_tensors_that_start_anywhere(name, grouping, dtype):
    """A slice of a larger storage is contiguous but off the 16 bytes that vector loads need."""
    *widths, groups = grouping
    tensors = inputs_of(widths, 9, 200, 200, dtype, groups=groups)
    del tensors["reverse_neighbors"]
    tensors["residual"] = torch.randn(200, widths[1], device=CUDA).to(dtype)
    expected = ops.sparse_conv_fused(**tensors, groups=groups)
    source = tensors[name]
    storage = torch.empty(source.numel() + 1, dtype=dtype, device=CUDA)
    storage[1:] = source.flatten()
    moved = storage[1:].view(source.shape)
    assert moved.is_contiguous() and moved.data_ptr() % 16
    # Rows off the 16 bytes are multiplied by other kernels than aligned ones.
    found = ops.sparse_conv_fused(**tensors | {name: moved}, groups=groups)
    torch.testing.assert_close(found, expected, **tolerances(dtype, 9 * widths[0] // groups + 2))


@pytest.mark.sanitizer
@pytest.mark.parametrize("groups", [1, 64])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_of_tensors_that_start_anywhere(groups, dtype):
    tensors = inputs_of((64, 64), 9, 200, 200, dtype, groups=groups)
    upstream = torch.randn(200, 64, device=CUDA).to(dtype)
    arguments = (tensors["neighbors"], None, True, groups)
    expected = torch.ops.pcperc.sparse_conv_weight_grad(tensors["feats"], upstream, *arguments)
    for moved in range(2):
        pair = [tensors["feats"], upstream]
        storage = torch.empty(200 * 64 + 1, dtype=dtype, device=CUDA)
        storage[1:] = pair[moved].flatten()
        pair[moved] = storage[1:].view(200, 64)
        for got, wanted in zip(torch.ops.pcperc.sparse_conv_weight_grad(*pair, *arguments), expected, strict=True):
            torch.testing.assert_close(got, wanted, **tolerances(got.dtype, 200))


@pytest.mark.parametrize("grouping", [(64, 128, 1), (48, 48, 48)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_repeats_bit_for_bit_over_many_rows(grouping, dtype, tf32):
    tf32(True)
    *widths, groups = grouping
    tensors = inputs_of(widths, 27, 30000, 30000, dtype, groups=groups, density=0.2)
    upstream = torch.randn(30000, widths[1]).to(dtype)
    first = run_op(tensors, upstream, groups=groups)
    for _ in range(3):
        for got, wanted in zip(run_op(tensors, upstream, groups=groups), first, strict=True):
            assert torch.equal(got, wanted)


@pytest.mark.parametrize("grouping", [(16, 16, 1), (16, 16, 16)], ids=str)
def test_weight_gradient_beyond_float16(grouping):
    """Float32 parameters get the gradient that float16 cannot hold."""
    *widths, groups = grouping
    tensors = inputs_of(widths, 1, 5000, 5000, torch.float16, groups=groups, density=1)
    tensors["weight"], tensors["bias"] = tensors["weight"].float(), tensors["bias"].float()
    tensors["feats"] = torch.full_like(tensors["feats"], 100)
    upstream = torch.full((5000, 16), 8.0)
    _, _, grad_weight, grad_bias = run_op(tensors, upstream, groups=groups)
    assert torch.equal(grad_weight, torch.full_like(grad_weight, 100 * 8 * 5000))
    assert torch.equal(grad_bias, torch.full_like(grad_bias, 8 * 5000))


@pytest.mark.large
@pytest.mark.parametrize("groups", [1, 64])
def test_more_values_than_an_int_counts(groups):
    """(34M, 64) bfloat16: row offsets beyond 2^31; tap 0 meets the row itself, tap 1 the rows from behind."""
    rows, width = 2**31 // 64 + 100_003, 64
    feats = torch.randn(rows, width, device=CUDA, dtype=torch.bfloat16)
    weight = torch.randn(2, width // groups, width, device=CUDA).bfloat16()
    forwards = torch.arange(rows, dtype=torch.int32, device=CUDA)
    neighbors = torch.stack([forwards, forwards.flip(0)])
    out = ops.sparse_conv(feats, weight, neighbors, groups=groups)
    sampled = torch.cat([torch.arange(70), torch.randint(rows, (500,)), torch.arange(rows - 70, rows)])
    compact, table = neighbors[:, sampled.to(CUDA)].cpu().unique(return_inverse=True)
    expected = convolve(feats[compact.to(CUDA)], weight, table, groups=groups)
    limits = tolerances(torch.bfloat16, 2 * width)
    torch.testing.assert_close(out[sampled.to(CUDA)].double().cpu(), expected, **limits)
    # The map is its own reverse, so that the output can stand in for a gradient.
    grad_weight, grad_bias = torch.ops.pcperc.sparse_conv_weight_grad(feats, out, neighbors, None, True, groups)
    pairs = [torch.zeros(width, width, dtype=torch.float64, device=CUDA) for _ in range(2)]
    sums = torch.zeros(width, dtype=torch.float64, device=CUDA)
    for part in torch.arange(rows, device=CUDA).split(2_000_000):
        values = out[part].double()
        pairs[0] += feats[part].double().T @ values
        pairs[1] += feats[rows - 1 - part].double().T @ values
        sums += values.sum(0)
    expected = torch.stack([pair.diagonal()[None] if groups == width else pair for pair in pairs])
    largest = expected.abs().max().item()
    # Sums of 34M products in 32 or 64 float32 parts.
    assert (grad_weight.double() - expected).abs().max().item() <= 1e-3 * largest
    assert (grad_bias.double() - sums).abs().max().item() <= 1e-3 * sums.abs().max().item()
