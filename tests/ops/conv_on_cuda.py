# SPDX-License-Identifier: Apache-2.0
"""Convolutions on a GPU: sizes, inputs, and the comparison with the oracle."""

import pytest
import torch

from pcperc import ops
from tests.oracles_sparse_conv import convolve, random_tables
from tests.tolerances import tolerances

CUDA = torch.device("cuda")
HALF = [torch.float16, torch.bfloat16]
DTYPES = [torch.float64, torch.float32, *HALF]
# Two of them are enough for tools/sanitize_gpu.sh.
FEW_SANITIZED = [
    pytest.param(dtype, marks=[pytest.mark.sanitizer] if dtype in (torch.float32, torch.bfloat16) else [])
    for dtype in DTYPES
]
# Widths around the tiles' 32, 64 and 128 columns, their 16 and 32 channels of depth and the 8 values of a 16-byte copy.
WIDTHS = [(1, 1), (3, 17), (17, 65), (65, 3), (8, 8), (16, 32), (24, 72), (64, 64), (136, 128), (33, 200)]
# Several taps to one product in half precision.
WIDTHS += [(3, 16), (4, 32), (5, 64)]


def inputs_of(widths, taps, num_in, num_out, dtype, *, groups=1, density=0.3):
    cin, cout = widths
    neighbors, reverse = random_tables(taps, num_in, num_out, density=density)
    tensors = {
        "feats": torch.randn(num_in, cin).to(dtype),
        "weight": torch.randn(taps, cin // groups, cout).to(dtype),
        "neighbors": neighbors,
        "reverse_neighbors": reverse,
        "bias": torch.randn(cout).to(dtype),
    }
    return {name: tensor.to(CUDA) for name, tensor in tensors.items()}


def with_gradients(run, tensors, upstream):
    """The output of run(feats, weight, bias) and its gradients."""
    leaves = [tensors[name].detach().clone().requires_grad_() for name in ("feats", "weight", "bias")]
    out = run(*leaves)
    return out.detach(), *torch.autograd.grad(out, leaves, upstream.to(out.device, out.dtype))


def run_op(tensors, upstream, **options):
    tables = {name: tensors[name] for name in ("neighbors", "reverse_neighbors")}
    return with_gradients(lambda f, w, b: ops.sparse_conv(f, w, bias=b, **tables, **options), tensors, upstream)


def check_against_oracle(tensors, dtype, *, groups=1):
    """Output and gradients are those of the oracle, as far as the dtype's rounding and float32 sums can say."""
    taps, num_out = tensors["neighbors"].shape
    cin, cout = tensors["feats"].shape[1] // groups, tensors["weight"].shape[2]
    upstream = torch.randn(num_out, cout).to(dtype)
    found = run_op(tensors, upstream, groups=groups)
    exact = {name: t.cpu().double() if t.is_floating_point() else t.cpu() for name, t in tensors.items()}
    table = exact["neighbors"]
    wanted = with_gradients(lambda f, w, b: convolve(f, w, table, b, groups=groups), exact, upstream)
    terms = (taps * cin + 1, taps * cout // groups, num_out, num_out)
    for got, expected, count in zip(found, wanted, terms, strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got.double().cpu(), expected, **tolerances(dtype, max(count, 1)))
