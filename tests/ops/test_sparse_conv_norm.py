# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from pcperc import ops
from tests import oracles, oracles_batch_norm
from tests.op_contract import DifferentiableOpContract, Mistake, Sample, assert_twice_differentiable
from tests.ops.clouds import random_coords
from tests.ops.test_kernel_map import GEOMETRIES
from tests.ops.test_sparse_conv import in_any_order, in_row_order, sample_of

PARAMETERS = ("feats", "weight", "bias", "residual", "norm_weight", "norm_bias")


def with_norm(sample, *, slope, residual=True, affine=True):
    rows, channels = sample.tensors["neighbors"].shape[1], sample.tensors["weight"].shape[2]
    tensors = dict(sample.tensors)
    if residual:
        tensors["residual"] = torch.randn(rows, channels)
    if affine:
        tensors |= {"norm_weight": torch.rand(channels) + 0.5, "norm_bias": torch.randn(channels)}
    return Sample(sample.name, tensors, {"negative_slope": slope}, terms_summed=sample.terms_summed * rows)


def two_steps(sample):
    """The same by the two operators."""
    t = dict(sample.tensors)
    norm = [t.pop(name, None) for name in ("running_mean", "running_var", "norm_weight", "norm_bias", "residual")]
    return ops.batch_norm(ops.sparse_conv(**t), *norm, training=True, **sample.options)


class TestSparseConvNorm(DifferentiableOpContract):
    differentiable = ("feats", "weight")

    @staticmethod
    def samples():
        torch.manual_seed(1)
        coords = random_coords(14, low=-1, high=1)
        found = [
            with_norm(sample_of("subm_k3", coords, GEOMETRIES["subm_k3"], 3, 2), slope=0.0),
            with_norm(
                sample_of("down_k3s2", coords, GEOMETRIES["down_k3s2"], 2, 3, bias=False), slope=1.0, residual=False
            ),
            with_norm(sample_of("down_k2s2", coords, GEOMETRIES["down_k2s2"], 2, 2), slope=0.1, affine=False),
        ]
        return [*found, in_any_order(found[1])]

    @staticmethod
    def call(sample):
        return (ops.sparse_conv_norm(**sample.tensors, **sample.options),)

    @staticmethod
    def oracle(sample):
        t, slope = sample.tensors, sample.options.get("negative_slope", 1.0)
        out = oracles.sparse_conv(t["feats"], t["weight"], in_row_order(t).numpy(), t.get("bias"))
        rest = [None if t.get(n) is None else t[n].numpy() for n in ("norm_weight", "norm_bias", "residual")]
        moments = oracles_batch_norm.moments(out)
        return (oracles_batch_norm.batch_norm(out, *moments, *rest, eps=1e-5, negative_slope=slope),)

    @staticmethod
    def overloads(sample):
        return []  # those of the two operators

    @staticmethod
    def mistakes():
        good = with_norm(
            sample_of("", random_coords(14, low=-1, high=1), GEOMETRIES["down_k2s2"], 2, 3), slope=0.0
        ).tensors

        def call(**other):
            return lambda: ops.sparse_conv_norm(**good | other)

        one = {"neighbors": good["neighbors"][:, :1], "reverse_neighbors": None, "residual": None}
        return [
            Mistake("no_tensor", call(feats=1), TypeError, "sparse_conv_norm: feats must be a tensor, got int"),
            Mistake("channels", call(weight=torch.zeros(8, 5, 3)), ValueError, r"weight must be \(K, 2, Cout\)"),
            Mistake(
                "norm", call(norm_weight=torch.zeros(4)), ValueError, r"sparse_conv_norm: norm_weight must be \(3,\)"
            ),
            Mistake(
                "residual", call(residual=good["residual"][1:]), ValueError, "residual must be like the convolution"
            ),
            Mistake("one_row", call(**one), ValueError, "the convolution must have at least 2 rows"),
            Mistake("slope", call(negative_slope=-1.0), ValueError, "negative_slope must be finite and >= 0"),
            Mistake(
                "order", call(row_order=torch.zeros(1)), ValueError, r"sparse_conv_norm: row_order must be .* int32"
            ),
        ]


@pytest.mark.parametrize("kernel_axes", [False, True])
@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_all_gradients_twice(slope, kernel_axes, device):
    sample = with_norm(sample_of("", random_coords(10, low=-1, high=1), GEOMETRIES["down_k3s2"], 2, 2), slope=slope)
    sample = sample.to(device, torch.float64)
    if kernel_axes:
        sample.tensors["weight"] = sample.tensors["weight"].unflatten(0, (3, 3, 3))
    leaves = [sample.tensors[name].clone().requires_grad_() for name in PARAMETERS]

    def run(*values):
        tensors = sample.tensors | dict(zip(PARAMETERS, values, strict=True))
        return ops.sparse_conv_norm(**tensors, **sample.options)

    assert torch.autograd.gradcheck(run, leaves, nondet_tol=0.0)
    assert_twice_differentiable(run, leaves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("is_autocast", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_the_bits_are_those_of_two_steps(bias, is_autocast, dtype, device):
    sample = sample_of("", random_coords(200, low=-3, high=3), GEOMETRIES["subm_k3"], 8, 8, bias=bias)
    sample = with_norm(sample, slope=0.0).to(device, dtype)
    found = []
    for compute in (two_steps, lambda sample: ops.sparse_conv_norm(**sample.tensors, **sample.options)):
        leaves = {name: sample.tensors[name].clone().requires_grad_() for name in PARAMETERS if name in sample.tensors}
        running = {"running_mean": torch.zeros(8, device=device), "running_var": torch.ones(8, device=device)}
        cast = {"residual": leaves["residual"].bfloat16()} if is_autocast else {}
        with torch.autocast(device.type, torch.bfloat16, enabled=is_autocast):
            out = compute(Sample("", sample.tensors | leaves | cast | running, sample.options))
        upstream = torch.linspace(-1, 1, out.numel(), device=device, dtype=out.dtype).view(out.shape)
        found.append([out, *torch.autograd.grad(out, list(leaves.values()), upstream), *running.values()])
    for expected, got in zip(*found, strict=True):
        assert got.dtype == expected.dtype and torch.equal(got, expected)


@pytest.mark.parametrize("name", PARAMETERS)
def test_one_input_alone_may_need_a_gradient(name, device):
    sample = with_norm(sample_of("", random_coords(20), GEOMETRIES["subm_k3"], 3, 4), slope=0.1)
    sample = sample.to(device, torch.float32)
    leaf = sample.tensors[name].clone().requires_grad_()
    alone = Sample("", sample.tensors | {name: leaf}, sample.options)
    outs = two_steps(alone), ops.sparse_conv_norm(**alone.tensors, **alone.options)
    upstream = torch.linspace(-1, 1, outs[0].numel(), device=device).view(outs[0].shape)
    expected, got = (torch.autograd.grad(out, leaf, upstream)[0] for out in outs)
    assert torch.equal(got, expected)
