# SPDX-License-Identifier: Apache-2.0
"""Each kernel of the convolution by its number: the same products in the same order, whatever its tile."""

import pytest
import torch

from tests.ops.conv_on_cuda import CUDA, HALF, inputs_of
from tests.oracles_sparse_conv import convolve, truncate_to_tf32
from tests.tolerances import tolerances

pytestmark = pytest.mark.gpu

# Kernels by number (csrc/cuda/sparse_conv_selection.h). Those of a row add the same products in the same order.
KINDS = {"tiles": [0, 1, 2, 3], "direct": [10], "warpgroups": [*range(100, 108)]}
SHAPES = [((16, 16), 1, 27), ((32, 64), 1, 27), ((64, 24), 1, 3), ((64, 264), 1, 9), ((96, 96), 1, 27)]
# Columns, rows and depths that fill no tile.
SHAPES += [pytest.param(s, marks=pytest.mark.sanitizer) for s in (((24, 40), 1, 8), ((96, 48), 2, 40))]
IS_HOPPER = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] == 9


def kernels_for(kind, widths, groups, taps, dtype):
    """The kernels of a kind that take such sizes."""
    cin, cout = (width // groups for width in widths)
    if kind == "direct":
        row_bytes = cin * dtype.itemsize
        fits = taps <= 32 and row_bytes <= 128 and cout <= (32 if row_bytes > 64 else 64)
        return KINDS[kind] if fits else []
    if kind == "warpgroups" and (dtype == torch.float32 or not IS_HOPPER):
        return []
    return KINDS[kind]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
def test_every_kernel_in_any_order(dtype, kind, shape):
    widths, groups, taps = shape
    kernels = kernels_for(kind, widths, groups, taps, dtype)
    if not kernels:
        pytest.skip(f"GPU: no kernel of this kind takes {shape} in {dtype} here")
    tensors = inputs_of(widths, taps, 1000, 1500, dtype, groups=groups, density=0.2)
    feats, weight, neighbors, bias = (tensors[name] for name in ("feats", "weight", "neighbors", "bias"))
    if dtype == torch.float32:
        feats, weight = truncate_to_tf32(feats), truncate_to_tf32(weight)
    residual = torch.randn(1500, widths[1], device=CUDA).to(dtype)
    exact = convolve(feats.cpu().double(), weight.cpu().double(), neighbors.cpu(), bias.cpu().double(), groups=groups)
    exact = torch.nn.functional.leaky_relu(exact + residual.cpu().double(), 0.25)
    ordered, order = torch.ops.pcperc.order_rows(neighbors)
    transposed = weight.transpose(1, 2).contiguous().transpose(1, 2)
    outs = []
    for kernel in kernels:
        for w, table, rows in ((weight, neighbors, None), (weight, ordered, order), (transposed, ordered, order)):
            arguments = (feats, w, table, bias, residual, groups, True, 0.25, rows, kernel)
            outs.append(torch.ops.pcperc.sparse_conv_tiled(*arguments))
    limits = tolerances(dtype, taps * widths[0] // groups + 2)
    torch.testing.assert_close(outs[0].double().cpu(), exact, **limits)
    for out in outs[1:]:
        assert torch.equal(out, outs[0])


@pytest.mark.sanitizer
@pytest.mark.skipif(not IS_HOPPER, reason="GPU: no Hopper")
@pytest.mark.parametrize("kernel", [100, 101, 102, 103, 104, 106, 107])
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_blocks_that_share_a_tile(dtype, kernel):
    tensors = inputs_of((96, 200), 40, 700, 900, dtype, density=0.2)
    arguments = [tensors[name] for name in ("feats", "weight", "neighbors", "bias")]

    def run(splits):
        options = (None, 1, True, 1.0, None, kernel + 1000 * splits)
        return torch.ops.pcperc.sparse_conv_tiled(*arguments, *options)

    whole = run(1)
    for splits in (2, 4, 8):
        outs = [run(splits) for _ in range(3)]
        torch.testing.assert_close(outs[0], whole, **tolerances(dtype, 40 * 96))
        assert torch.equal(outs[0], outs[1]) and torch.equal(outs[0], outs[2])
