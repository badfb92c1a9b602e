# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from pcperc import ops
from tests import oracles
from tests.op_contract import DifferentiableOpContract, Mistake, Sample, assert_twice_differentiable
from tests.ops.clouds import CLOUDS, random_coords
from tests.ops.test_kernel_map import GEOMETRIES, out_coords_of
from tests.tolerances import tolerances

# (Cin, Cout, groups): whole vectors, ragged ones, depthwise, one input channel with several outputs and the reverse.
GROUPINGS = [(4, 6, 2), (3, 3, 3), (2, 6, 2), (6, 2, 2)]
WIDE_GROUPINGS = [(64, 64, 2), (32, 96, 2), (64, 64, 64), (37, 37, 37), (128, 128, 32), (24, 72, 24), (72, 24, 24)]


def sample_of(name, coords, geometry, cin, cout, groups):
    table = torch.from_numpy(oracles.kernel_map(coords, out_coords_of(coords, geometry), **geometry))
    tensors = {
        "feats": torch.randn(len(coords), cin),
        "weight": torch.randn(len(table), cin // groups, cout),
        "neighbors": table,
        "reverse_neighbors": ops.reverse_kernel_map(table, num_inputs=len(coords)),
        "bias": torch.randn(cout),
    }
    return Sample(name, tensors, {"groups": groups}, terms_summed=cin // groups * len(table) + 1)


class TestSparseConvGroups(DifferentiableOpContract):
    differentiable = ("feats", "weight", "bias")

    @staticmethod
    def samples():
        torch.manual_seed(1)
        small = random_coords(12, low=-1, high=1)
        found = [
            sample_of(f"{cin}_{cout}_{groups}", small, GEOMETRIES["down_k3s2"], cin, cout, groups)
            for cin, cout, groups in GROUPINGS
        ]
        found += [sample_of(cloud, CLOUDS[cloud], GEOMETRIES["subm_k3"], 4, 4, 4) for cloud in ("empty", "one")]
        return found

    @staticmethod
    def call(sample):
        return (ops.sparse_conv(**sample.tensors, **sample.options),)

    @staticmethod
    def oracle(sample):
        t = sample.tensors
        return (oracles.sparse_conv(t["feats"], t["weight"], t["neighbors"].numpy(), t["bias"], **sample.options),)

    @staticmethod
    def overloads(sample):
        t, groups = sample.tensors, sample.options["groups"]
        tables = (t["neighbors"], t["reverse_neighbors"])
        grad = torch.randn(t["neighbors"].shape[1], t["weight"].shape[2], device=t["feats"].device)
        return [
            (torch.ops.pcperc.sparse_conv.default, (t["feats"], t["weight"], *tables, t["bias"], groups)),
            (torch.ops.pcperc.sparse_conv_weight_grad.default, (t["feats"], grad, *tables, True, groups)),
        ]

    @staticmethod
    def mistakes():
        good = sample_of("", CLOUDS["one"], GEOMETRIES["down_k2s2"], 4, 6, 2).tensors

        def call(groups, **other):
            return lambda: ops.sparse_conv(**good | other, groups=groups)

        return [
            Mistake("type", call(2.0), TypeError, "groups must be a whole number > 0, got 2.0"),
            Mistake("zero", call(0), ValueError, "groups must be a whole number > 0, got 0"),
            Mistake("in", call(3), ValueError, r"weight must be \(K, 4 / 3, multiple of 3\)"),
            Mistake(
                "out", call(2, weight=torch.zeros(8, 2, 5)), ValueError, r"weight must be \(K, 4 / 2, multiple of 2\)"
            ),
        ]


@pytest.mark.parametrize(("cin", "cout", "groups"), WIDE_GROUPINGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_equals_one_convolution_for_each_group(cin, cout, groups, dtype, device):
    sample = sample_of("", random_coords(300, low=-3, high=3), GEOMETRIES["subm_k3"], cin, cout, groups)
    sample = sample.to(device, dtype)
    leaves = {n: sample.tensors[n].clone().requires_grad_() for n in ("feats", "weight", "bias")}
    tables = {n: sample.tensors[n] for n in ("neighbors", "reverse_neighbors")}
    out = ops.sparse_conv(**leaves, **tables, groups=groups)
    exact = {n: leaf.detach().double().requires_grad_() for n, leaf in leaves.items()}
    parts = [
        ops.sparse_conv(feats=feats.contiguous(), weight=weight, bias=bias, **tables)
        for feats, weight, bias in zip(
            exact["feats"].chunk(groups, 1), exact["weight"].chunk(groups, 2), exact["bias"].chunk(groups), strict=True
        )
    ]
    expected = torch.cat(parts, 1)
    torch.testing.assert_close(out.double(), expected, **tolerances(dtype, sample.terms_summed))
    upstream = torch.randn_like(out)
    grads = torch.autograd.grad(out, list(leaves.values()), upstream)
    grads_exact = torch.autograd.grad(expected, list(exact.values()), upstream.double())
    for got, wanted in zip(grads, grads_exact, strict=True):
        limits = tolerances(dtype, max(len(out), cout // groups * len(tables["neighbors"])))
        torch.testing.assert_close(got.double(), wanted, **limits)


@pytest.mark.parametrize(("cin", "cout", "groups"), [(4, 8, 2), (6, 6, 6), (8, 4, 4)])
def test_equals_dense_convolution_on_a_full_grid(cin, cout, groups, device):
    grid = (4, 3, 5)
    dense = torch.randn(2, cin, *grid, dtype=torch.float64, device=device)
    weight = torch.randn(cout, cin // groups, 3, 3, 3, dtype=torch.float64, device=device)
    coords = torch.cartesian_prod(torch.arange(2), *(torch.arange(n) for n in grid)).int().to(device)
    geometry = dict(kernel_size=3, stride=1, padding=1, dilation=1)
    neighbors = ops.build_kernel_map(coords, coords, **geometry)
    rows = weight.permute(2, 3, 4, 1, 0).flatten(0, 2)
    out = ops.sparse_conv(dense.movedim(1, -1).flatten(0, 3), rows, neighbors, groups=groups)
    expected = torch.nn.functional.conv3d(dense, weight, padding=1, groups=groups)
    torch.testing.assert_close(out, expected.movedim(1, -1).flatten(0, 3))


@pytest.mark.parametrize(("cin", "cout", "groups"), GROUPINGS)
def test_double_backward(cin, cout, groups):
    sample = sample_of("", random_coords(7, low=-1, high=1), GEOMETRIES["down_k2s2"], cin, cout, groups)
    sample = sample.to(torch.device("cpu"), torch.float64)
    leaves = [sample.tensors[n].clone().requires_grad_() for n in ("feats", "weight", "bias")]

    def run(feats, weight, bias):
        tensors = sample.tensors | {"feats": feats, "weight": weight, "bias": bias}
        return ops.sparse_conv(**tensors, groups=groups)

    assert_twice_differentiable(run, leaves, fast_mode=True)


@pytest.mark.parametrize("groups", [1, 2, 8], ids=lambda g: f"groups_{g}")
def test_not_a_number_stays_in_its_group(groups, device):
    sample = sample_of("", random_coords(60), GEOMETRIES["subm_k3"], 8, 8, groups).to(device, torch.float32)
    sample.tensors["feats"][:, 0] = torch.nan
    out = ops.sparse_conv(**sample.tensors, groups=groups)
    width = 8 // groups
    assert out[:, :width].isnan().all()
    assert out[:, width:].isfinite().all()
