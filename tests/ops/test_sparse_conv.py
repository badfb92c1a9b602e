# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from pcperc import ops
from tests import oracles
from tests.op_contract import DifferentiableOpContract, Mistake, Sample, assert_twice_differentiable
from tests.ops.clouds import CLOUDS, random_coords
from tests.ops.test_kernel_map import GEOMETRIES, out_coords_of
from tests.tolerances import tolerances


def sample_of(name, coords, geometry, cin, cout, *, bias=True):
    table = torch.from_numpy(oracles.kernel_map(coords, out_coords_of(coords, geometry), **geometry))
    tensors = {
        "feats": torch.randn(len(coords), cin),
        "weight": torch.randn(len(table), cin, cout),
        "neighbors": table,
        "reverse_neighbors": ops.reverse_kernel_map(table, num_inputs=len(coords)),
    }
    if bias:
        tensors["bias"] = torch.randn(cout)
    return Sample(name, tensors, terms_summed=cin * len(table) + 1)


def in_any_order(sample):
    """The same convolution with the columns of both tables shuffled."""
    tensors = dict(sample.tensors)
    for name, order in (("neighbors", "row_order"), ("reverse_neighbors", "reverse_row_order")):
        tensors[order] = torch.randperm(tensors[name].shape[1]).int()
        tensors[name] = tensors[name][:, tensors[order].long()]
    return Sample(f"{sample.name} in any order", tensors, terms_summed=sample.terms_summed)


def in_row_order(t):
    """The table of a sample with each column at its output row."""
    return t["neighbors"][:, t["row_order"].argsort()] if "row_order" in t else t["neighbors"]


class TestSparseConv(DifferentiableOpContract):
    differentiable = ("feats", "weight", "bias")

    @staticmethod
    def samples():
        torch.manual_seed(1)
        small = random_coords(14, low=-1, high=1)
        found = [sample_of(name, small, geometry, 3, 2) for name, geometry in GEOMETRIES.items()]
        found += [sample_of(cloud, CLOUDS[cloud], GEOMETRIES["subm_k3"], 2, 3) for cloud in ("empty", "one")]
        found += [sample_of("gap_in_batch", CLOUDS["gap_in_batch"], GEOMETRIES["down_k2s2"], 1, 1)]
        found += [in_any_order(sample) for sample in found[:4]]
        return found

    @staticmethod
    def call(sample):
        return (ops.sparse_conv(**sample.tensors),)

    @staticmethod
    def oracle(sample):
        t = sample.tensors
        return (oracles.sparse_conv(t["feats"], t["weight"], in_row_order(t).numpy(), t.get("bias")),)

    @staticmethod
    def overloads(sample):
        t = sample.tensors
        arguments = (t["feats"], t["weight"], t["neighbors"], t["reverse_neighbors"], t["bias"])
        orders = (1, False, t.get("row_order"), t.get("reverse_row_order"))
        grad = torch.randn(t["neighbors"].shape[1], t["weight"].shape[2], device=t["feats"].device)
        gradient = (t["feats"], grad, t["neighbors"], t["reverse_neighbors"], True)
        return [
            (torch.ops.pcperc.sparse_conv.default, (*arguments, *orders)),
            (torch.ops.pcperc.sparse_conv_weight_grad.default, (*gradient, *orders)),
        ]

    @staticmethod
    def mistakes():
        good = sample_of("", CLOUDS["one"], GEOMETRIES["down_k2s2"], 2, 3).tensors

        def call(**other):
            return lambda: ops.sparse_conv(**good | other)

        return [
            Mistake("no_tensor", call(feats=1), (TypeError), "sparse_conv: feats must be a tensor, got int"),
            Mistake("channels", call(weight=torch.zeros(8, 5, 3)), ValueError, r"weight must be \(K, 2, Cout\)"),
            Mistake("dtype", call(feats=torch.zeros(1, 2).int()), ValueError, "feats must be"),
            Mistake("mixed", call(weight=good["weight"].double()), ValueError, "weight must have the dtype of feats"),
            Mistake("taps", call(neighbors=torch.zeros(7, 1).int()), ValueError, r"neighbors must be \(8, M\) int32"),
            Mistake("bias", call(bias=torch.zeros(4)), ValueError, r"bias must be \(3,\)"),
            Mistake("device", call(bias=torch.zeros(3, device="meta")), ValueError, "bias must be on cpu"),
            Mistake(
                "rows",
                call(reverse_neighbors=torch.zeros(8, 9).int()),
                ValueError,
                r"reverse_neighbors must be \(8, 1\)",
            ),
            Mistake("order", call(row_order=torch.zeros(1)), ValueError, r"row_order must be \(1,\) int32, got"),
            Mistake(
                "order_of_nothing",
                call(reverse_neighbors=None, reverse_row_order=torch.zeros(1).int()),
                ValueError,
                "reverse_row_order must be None without reverse_neighbors, got",
            ),
        ]


WIDTHS = [(16, 16), (5, 16), (16, 32), (32, 64), (64, 64), (128, 128), (33, 7), (1, 1), (72, 40)]


@pytest.mark.parametrize(("cin", "cout"), WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("geometry", ["subm_k3", "down_k3s2"])
def test_every_width_and_type_with_both_gradients(cin, cout, dtype, geometry, device):
    """Against the oracle forward, and against its own float64 backward (which gradcheck has confirmed)."""
    sample = sample_of("", random_coords(200, low=-3, high=3), GEOMETRIES[geometry], cin, cout)
    sample = sample.to(device, dtype)
    exact = sample.to(torch.device("cpu"), torch.float64)
    limits = tolerances(dtype, sample.terms_summed)
    out, out_exact, grads, grads_exact = [None] * 4
    for inputs, is_exact in ((sample, False), (exact, True)):
        leaves = {n: inputs.tensors[n].clone().requires_grad_() for n in ("feats", "weight", "bias")}
        result = ops.sparse_conv(**inputs.tensors | leaves)
        generator = torch.Generator().manual_seed(3)
        upstream = torch.randn(result.shape, generator=generator).to(dtype).to(result.device, result.dtype)
        gradients = torch.autograd.grad(result, list(leaves.values()), upstream)
        if is_exact:
            out_exact, grads_exact = result, gradients
        else:
            out, grads = result, gradients
    expected = torch.from_numpy(
        oracles.sparse_conv(
            *(exact.tensors[n] for n in ("feats", "weight")), exact.tensors["neighbors"].numpy(), exact.tensors["bias"]
        )
    )
    torch.testing.assert_close(out_exact.detach(), expected, **tolerances(torch.float64, sample.terms_summed))
    torch.testing.assert_close(out.double().cpu(), out_exact, **limits)
    rows = max(sample.terms_summed, sample.tensors["neighbors"].shape[1], cout * len(sample.tensors["neighbors"]))
    for got, wanted in zip(grads, grads_exact, strict=True):
        torch.testing.assert_close(got.double().cpu(), wanted, **tolerances(dtype, rows))


def test_double_backward():
    sample = sample_of("", random_coords(10, low=-1, high=1), GEOMETRIES["down_k3s2"], 2, 2)
    sample = sample.to(torch.device("cpu"), torch.float64)
    leaves = [sample.tensors[n].clone().requires_grad_() for n in ("feats", "weight", "bias")]

    def run(feats, weight, bias):
        return ops.sparse_conv(**sample.tensors | {"feats": feats, "weight": weight, "bias": bias})

    assert_twice_differentiable(run, leaves)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_same_bits_for_every_number_of_threads(threads):
    sample = sample_of("", random_coords(3000, low=-8, high=8), GEOMETRIES["subm_k3"], 16, 24)

    def run():
        leaves = {n: sample.tensors[n].clone().requires_grad_() for n in ("feats", "weight", "bias")}
        out = ops.sparse_conv(**sample.tensors | leaves)
        return [out, *torch.autograd.grad(out.sum(), list(leaves.values()))]

    before, expected = torch.get_num_threads(), run()
    torch.set_num_threads(threads)
    try:
        for got, wanted in zip(run(), expected, strict=True):
            assert torch.equal(got, wanted)
    finally:
        torch.set_num_threads(before)


def test_autocast_keeps_float32_parameters(device):
    sample = sample_of("", random_coords(60), GEOMETRIES["subm_k3"], 8, 8).to(device, torch.float32)
    weight = sample.tensors["weight"].clone().requires_grad_()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        out = ops.sparse_conv(**sample.tensors | {"weight": weight})
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    assert weight.grad.dtype == torch.float32
    plain = ops.sparse_conv(**sample.tensors)
    rounded = tolerances(torch.bfloat16, sample.terms_summed)
    torch.testing.assert_close(out.float(), plain, **rounded)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("entry", [-2, 90, 2**31 - 1])
def test_entries_that_are_no_row_count_as_absent(entry, dtype, device):
    sample = sample_of("", random_coords(90), GEOMETRIES["subm_k3"], 8, 8).to(device, dtype)
    feats, table = sample.tensors["feats"], sample.tensors["neighbors"]
    assert (table < 0).any() and len(feats) <= 90

    def results(neighbors):
        gradients = torch.ops.pcperc.sparse_conv_weight_grad(feats, torch.ones_like(feats), neighbors, None, True)
        return ops.sparse_conv(**sample.tensors | {"neighbors": neighbors}), *gradients

    for got, wanted in zip(results(table.masked_fill(table < 0, entry)), results(table), strict=True):
        assert torch.equal(got, wanted)


def test_meta_tensors_give_shape_and_dtype():
    feats, weight = torch.empty(5, 3, device="meta", requires_grad=True), torch.empty(1, 3, 2, device="meta")
    table = torch.empty(1, 5, dtype=torch.int32, device="meta")
    with torch.autocast("cpu", torch.bfloat16):
        out = ops.sparse_conv(feats, weight, table, table)
        fused = ops.sparse_conv_fused(feats.detach(), weight, table, residual=torch.empty(5, 2, device="meta"))
    for result in (out, fused):
        assert result.is_meta and result.shape == (5, 2) and result.dtype == torch.float32
    assert torch.autograd.grad(out.sum(), feats)[0].shape == feats.shape
