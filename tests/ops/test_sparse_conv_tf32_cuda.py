# SPDX-License-Identifier: Apache-2.0
"""TF32 on a GPU: what it rounds, and when it is on."""

import pytest
import torch

from pcperc import ops
from tests.ops.conv_on_cuda import CUDA, WIDTHS, inputs_of, run_op, with_gradients
from tests.oracles_sparse_conv import convolve, truncate_to_tf32
from tests.tolerances import tolerances

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("taps", [1, 27, 125])
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_tf32_is_exact_on_what_it_holds(widths, taps, tf32):
    """Products of values of 11 bits are exact, so that only the float32 sums round."""
    tf32(True)
    tensors = inputs_of(widths, taps, 150, 200, torch.float32)
    for name in ("feats", "weight"):
        tensors[name] = truncate_to_tf32(tensors[name])
    upstream = truncate_to_tf32(torch.randn(200, widths[1]))
    found = run_op(tensors, upstream)
    exact = {name: t.cpu().double() if t.is_floating_point() else t.cpu() for name, t in tensors.items()}
    wanted = with_gradients(lambda f, w, b: convolve(f, w, exact["neighbors"], b), exact, upstream)
    for got, expected in zip(found, wanted, strict=True):
        limits = tolerances(torch.float32, max(taps * max(widths) + 1, 200))
        torch.testing.assert_close(got.double().cpu(), expected, **limits)


def set_by_flag():
    torch.backends.cuda.matmul.allow_tf32 = True


def set_by_name():
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def set_for_all_devices():
    torch.set_float32_matmul_precision("high")


@pytest.mark.parametrize("switch", [set_by_flag, set_by_name, set_for_all_devices])
def test_tf32_follows_every_switch_of_torch(switch, tf32):
    tensors = inputs_of((64, 64), 27, 500, 500, torch.float32)
    upstream = torch.randn(500, 64)
    exact = run_op(tensors, upstream)
    switch()
    rounded = run_op(tensors, upstream)
    fused = ops.sparse_conv_fused(*(tensors[n] for n in ("feats", "weight", "neighbors", "bias")))
    assert torch.equal(fused, rounded[0])
    for got, wanted in zip(rounded[:3], exact[:3], strict=True):
        assert not torch.allclose(got, wanted, **tolerances(torch.float32, 27 * 64))
        # TF32 keeps as many bits of an operand as float16.
        torch.testing.assert_close(got, wanted, **tolerances(torch.float16, 27 * 64))


def test_gradients_are_computed_as_the_forward_pass(tf32):
    tensors = inputs_of((32, 48), 27, 500, 500, torch.float32)
    upstream = torch.randn(500, 48)
    tables = [tensors[name] for name in ("neighbors", "reverse_neighbors")]
    results = {}
    for forward in (False, True):
        for backward in (False, True):
            leaves = [tensors[name].clone().requires_grad_() for name in ("feats", "weight")]
            tf32(forward)
            out = ops.sparse_conv(*leaves, *tables)
            tf32(backward)
            results[forward, backward] = torch.autograd.grad(out, leaves, upstream.to(CUDA))
    for index in range(2):
        for forward in (False, True):
            assert torch.equal(results[forward, False][index], results[forward, True][index])
        assert not torch.equal(results[False, False][index], results[True, True][index])
