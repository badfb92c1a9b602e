# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest
import torch

from pcperc import ops
from tests import oracles
from tests.op_contract import Mistake, OpContract, Sample
from tests.ops.clouds import CLOUDS, random_coords
from tests.ops.test_kernel_map import GEOMETRIES, out_coords_of
from tests.tolerances import tolerances


def sample_of(name, coords, geometry, cin, cout, *, leave_out=(), **options):
    table = torch.from_numpy(oracles.kernel_map(coords, out_coords_of(coords, geometry), **geometry))
    tensors = {
        "feats": torch.randn(len(coords), cin),
        "weight": torch.randn(len(table), cin // options.get("groups", 1), cout),
        "neighbors": table,
        "bias": torch.randn(cout),
        "residual": torch.randn(table.shape[1], cout),
    }
    tensors = {n: t for n, t in tensors.items() if n not in leave_out}
    return Sample(name, tensors, options, terms_summed=cin * len(table) + 2)


class TestSparseConvFused(OpContract):
    @staticmethod
    def samples():
        torch.manual_seed(1)
        cloud, subm, down = CLOUDS["random"], GEOMETRIES["subm_k3"], GEOMETRIES["down_k3s2"]
        return [
            sample_of("plain", cloud, subm, 8, 16, leave_out=("bias", "residual")),
            sample_of("relu", cloud, subm, 16, 40, negative_slope=0.0, leave_out=("residual",)),
            sample_of("residual", cloud, subm, 3, 5, leave_out=("bias",)),
            sample_of("leaky", cloud, down, 16, 24, negative_slope=0.1),
            sample_of("upside_down", cloud, down, 4, 4, negative_slope=-2),
            sample_of("groups", cloud, down, 32, 48, negative_slope=0.0, groups=4),
            sample_of("depthwise", cloud, subm, 21, 21, negative_slope=0.5, groups=21),
            sample_of("empty", CLOUDS["empty"], subm, 4, 4, negative_slope=0.0),
            sample_of("one", CLOUDS["one"], subm, 4, 4, negative_slope=0.0),
        ]

    @staticmethod
    def call(sample):
        return (ops.sparse_conv_fused(**sample.tensors, **sample.options),)

    @staticmethod
    def oracle(sample):
        tensors = {n: t.numpy() for n, t in sample.tensors.items()}
        return (oracles.sparse_conv_fused(**tensors, **sample.options),)

    @staticmethod
    def overloads(sample):
        t, options = sample.tensors, sample.options
        arguments = (
            t["feats"],
            t["weight"],
            t["neighbors"],
            t.get("bias"),
            t.get("residual"),
            options.get("groups", 1),
        )
        slope = float(options.get("negative_slope", 1.0))
        return [(torch.ops.pcperc.sparse_conv_fused.default, (*arguments, False, slope))]

    @staticmethod
    def mistakes():
        good = sample_of("", CLOUDS["one"], GEOMETRIES["down_k2s2"], 2, 3).tensors

        def call(**other):
            return lambda: ops.sparse_conv_fused(**good | other)

        learned = torch.zeros(1, 3, requires_grad=True)
        return [
            Mistake("no_tensor", call(residual=1), TypeError, "sparse_conv_fused: residual must be a tensor, got int"),
            Mistake("rows", call(residual=torch.zeros(2, 3)), ValueError, r"residual must be \(1, 3\) in the dtype of"),
            Mistake("dtype", call(residual=torch.zeros(1, 3).half()), ValueError, "residual must be .* got .* float16"),
            Mistake("device", call(residual=torch.zeros(1, 3, device="meta")), ValueError, "residual must be on cpu"),
            Mistake("channels", call(weight=torch.zeros(8, 5, 3)), ValueError, "sparse_conv_fused: weight must be"),
            Mistake("slope", call(negative_slope="0"), TypeError, "negative_slope must be a number, got str"),
            Mistake(
                "infinite", call(negative_slope=float("nan")), ValueError, "negative_slope must be finite, got nan"
            ),
            Mistake("gradient", call(residual=learned), ValueError, "residual must need no gradient"),
        ]


def test_parameters_that_learn_are_taken_without_a_gradient(device):
    sample = sample_of("", CLOUDS["random"], GEOMETRIES["subm_k3"], 4, 4).to(device, torch.float32)
    sample.tensors["weight"].requires_grad_()
    with torch.no_grad():
        out = ops.sparse_conv_fused(**sample.tensors)
    assert not out.requires_grad


def test_half_precision_is_rounded_once(device):
    """A residual that cancels most of the sum leaves digits that a rounded sum would have lost."""
    sample = sample_of("", CLOUDS["random"], GEOMETRIES["subm_k3"], 32, 32).to(device, torch.bfloat16)
    t = sample.tensors
    t["residual"] = -ops.sparse_conv(t["feats"], t["weight"], t["neighbors"], bias=t["bias"])
    exact = sample.to(torch.device("cpu"), torch.float64).tensors
    expected = torch.from_numpy(oracles.sparse_conv_fused(**{n: e.numpy() for n, e in exact.items()}))
    assert expected.abs().max() > 0
    limits = tolerances(torch.float32, sample.terms_summed)
    torch.testing.assert_close(ops.sparse_conv_fused(**t).double().cpu(), expected, rtol=2**-8, atol=limits["atol"])


def test_relu_of_what_is_no_number(device):
    """ReLU keeps NaN, and minus infinity gives 0, as torch.relu does."""
    feats = torch.tensor([[torch.nan], [-torch.inf], [torch.inf], [-0.0]], device=device)
    table = torch.arange(4, dtype=torch.int32, device=device)[None]
    out = ops.sparse_conv_fused(feats, torch.ones(1, 1, 1, device=device), table, negative_slope=0.0)
    torch.testing.assert_close(out, torch.relu(feats), rtol=0, atol=0, equal_nan=True)


def test_autocast_takes_all_inputs_along(device):
    sample = sample_of("", random_coords(60), GEOMETRIES["subm_k3"], 8, 8, negative_slope=0.0)
    sample = sample.to(device, torch.float32)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        out = TestSparseConvFused.call(sample)[0]
    rounded = {name: sample.tensors[name].bfloat16() for name in ("feats", "residual")}
    rounded = replace(sample, tensors=sample.tensors | rounded)
    assert torch.equal(out, TestSparseConvFused.call(rounded)[0])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_same_bits_for_every_number_of_threads(threads):
    sample = sample_of("", random_coords(3000, low=-8, high=8), GEOMETRIES["subm_k3"], 16, 24, negative_slope=0.1)
    before, expected = torch.get_num_threads(), TestSparseConvFused.call(sample)[0]
    torch.set_num_threads(threads)
    try:
        assert torch.equal(TestSparseConvFused.call(sample)[0], expected)
    finally:
        torch.set_num_threads(before)
