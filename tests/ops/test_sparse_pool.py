# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from pcperc import ops
from tests import oracles, oracles_pool
from tests.op_contract import DifferentiableOpContract, Mistake, Sample, assert_twice_differentiable
from tests.ops.clouds import CLOUDS, random_coords
from tests.ops.test_kernel_map import GEOMETRIES, out_coords_of

MODES = ("max", "mean", "sum")


def sample_of(name, coords, geometry, channels=3, **options):
    table = torch.from_numpy(oracles.kernel_map(coords, out_coords_of(coords, geometry), **geometry))
    tensors = {
        "feats": torch.randn(len(coords), channels),
        "neighbors": table,
        "reverse_neighbors": ops.reverse_kernel_map(table, num_inputs=len(coords)),
    }
    return Sample(name, tensors, options, terms_summed=len(table))


def small_samples(modes):
    torch.manual_seed(1)
    small = random_coords(14, low=-1, high=1)
    for mode in modes:
        options = {"mode": mode} if mode else {}
        prefix = f"{mode}_" if mode else ""
        for name in ("subm_k3", "down_k2s2", "down_k3s2"):
            yield sample_of(prefix + name, small, GEOMETRIES[name], **options)
        for cloud in ("empty", "one", "gap_in_batch"):
            yield sample_of(prefix + cloud, CLOUDS[cloud], GEOMETRIES["down_k2s2"], **options)


class TestSparsePool(DifferentiableOpContract):
    differentiable = ("feats",)

    @staticmethod
    def samples():
        return list(small_samples(MODES))

    @staticmethod
    def call(sample):
        return (ops.sparse_pool(**sample.tensors, **sample.options),)

    @staticmethod
    def oracle(sample):
        t = sample.tensors
        return oracles_pool.sparse_pool(t["feats"].numpy(), t["neighbors"].numpy(), sample.options["mode"])[:1]

    @staticmethod
    def overloads(sample):
        if sample.options["mode"] != "mean":  # the sum is the same operator, the maximum is below
            return []
        feats, table, reverse = (sample.tensors[n] for n in ("feats", "neighbors", "reverse_neighbors"))
        counts = torch.ops.pcperc.neighbor_counts(table, len(feats))
        return [
            (torch.ops.pcperc.neighbor_counts.default, (table, len(feats))),
            (torch.ops.pcperc.sparse_sum_pool.default, (feats.clone().requires_grad_(), table, reverse, None, counts)),
        ]

    @staticmethod
    def mistakes():
        good = sample_of("", CLOUDS["one"], GEOMETRIES["down_k2s2"], 2).tensors

        def call(mode="max", **other):
            return lambda: ops.sparse_pool(**good | other, mode=mode)

        needs_grad = {"feats": good["feats"].clone().requires_grad_(), "reverse_neighbors": None}
        return [
            Mistake("mode", call("min"), ValueError, "sparse_pool: mode must be one of max, mean, sum, got 'min'"),
            Mistake("no_tensor", call(feats=1), TypeError, "sparse_pool: feats must be a tensor, got int"),
            Mistake("dtype", call(feats=torch.zeros(1, 2).int()), TypeError, "feats must have a floating point dtype"),
            Mistake("table", call(neighbors=torch.zeros(8, 1)), ValueError, r"neighbors must be \(K, M\) int32"),
            Mistake("reverse", call(reverse_neighbors=torch.zeros(8, 9).int()), ValueError, r"must be \(8, 1\) int32"),
            Mistake("no_way_back", call(**needs_grad), ValueError, "must be given where feats need a gradient"),
            Mistake("device", call(feats=torch.zeros(1, 2, device="meta")), ValueError, "neighbors must be on meta"),
        ]


class TestSparseMaxPool(DifferentiableOpContract):
    """Values and rows, and the way back of values to these rows."""

    differentiable = ("feats",)

    @staticmethod
    def samples():
        return list(small_samples([None]))

    @staticmethod
    def call(sample):
        values, rows = ops.sparse_max_pool(**sample.tensors)
        return values, rows, ops.sparse_max_unpool(2 * values, rows, sample.tensors["reverse_neighbors"])

    @staticmethod
    def oracle(sample):
        feats = sample.tensors["feats"].numpy()
        values, rows = oracles_pool.sparse_pool(feats, sample.tensors["neighbors"].numpy(), "max")
        return values, rows, oracles_pool.max_unpool(2 * values, rows, len(feats))

    @staticmethod
    def overloads(sample):
        feats, table, reverse = (sample.tensors[n] for n in ("feats", "neighbors", "reverse_neighbors"))
        values, rows = ops.sparse_max_pool(feats, table)
        return [
            (torch.ops.pcperc.sparse_max_pool.default, (feats.clone().requires_grad_(), table, reverse)),
            (torch.ops.pcperc.sparse_max_unpool.default, (values.requires_grad_(), rows, reverse)),
            (torch.ops.pcperc.sparse_max_take.default, (feats.clone().requires_grad_(), rows, reverse)),
        ]

    @staticmethod
    def mistakes():
        def unpool(feats, rows):
            return lambda: ops.sparse_max_unpool(feats, rows, torch.zeros(1, 2).int())

        expected = r"sparse_max_unpool: rows must be \(2, 3\) int32 like feats"
        return [
            Mistake("shape", unpool(torch.zeros(2, 3), torch.zeros(2, 2).int()), ValueError, expected),
            Mistake("dtype", unpool(torch.zeros(2, 3), torch.zeros(2, 3).long()), ValueError, expected),
        ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("geometry", ["subm_k3", "down_k3s2"])
def test_double_backward(mode, geometry, device):
    sample = sample_of("", random_coords(12, low=-1, high=1), GEOMETRIES[geometry], 2).to(device, torch.float64)
    feats = sample.tensors["feats"].requires_grad_()

    def run(feats):
        return ops.sparse_pool(**sample.tensors | {"feats": feats}, mode=mode).square()

    assert_twice_differentiable(run, [feats])


def test_max_unpool_is_the_transpose_of_reading_the_rows(device):
    sample = sample_of("", random_coords(40, low=-2, high=2), GEOMETRIES["down_k3s2"], 4).to(device, torch.float64)
    values, rows = ops.sparse_max_pool(**sample.tensors)
    values.requires_grad_()
    reverse = sample.tensors["reverse_neighbors"]
    assert torch.autograd.gradcheck(lambda v: ops.sparse_max_unpool(v, rows, reverse), [values])
    assert_twice_differentiable(lambda v: ops.sparse_max_unpool(v, rows, reverse).square(), [values])


def test_first_maximum_and_nan_win(device):
    feats = torch.tensor([[1.0, 5.0, -torch.inf], [2.0, torch.nan, -torch.inf], [2.0, 7.0, -torch.inf]], device=device)
    table = torch.tensor([[-1, 2], [0, 1], [1, 0], [2, -1]], dtype=torch.int32, device=device)
    values, rows = ops.sparse_max_pool(feats, table)
    assert rows.tolist() == [[1, 1, 0], [2, 1, 2]]
    expected = torch.tensor([[2.0, torch.nan, -torch.inf]] * 2, device=device)
    assert torch.equal(values.nan_to_num(nan=-9.0), expected.nan_to_num(nan=-9.0))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("entry", [-2, 500, 2**31 - 1, -(2**31)])
def test_entries_that_are_no_row_count_as_absent(mode, entry, device):
    sample = sample_of("", random_coords(50), GEOMETRIES["down_k3s2"]).to(device, torch.float32)
    tensors, table = sample.tensors, sample.tensors["neighbors"]
    assert (table < 0).any() and max(len(tensors["feats"]), table.shape[1]) <= 500

    def results(neighbors, reverse):
        feats = tensors["feats"].clone().requires_grad_()
        out = ops.sparse_pool(feats, neighbors, reverse, mode=mode)
        return out, *torch.autograd.grad(out.square().sum(), feats)

    reverse = tensors["reverse_neighbors"]
    spoilt = [t.masked_fill(t < 0, entry) for t in (table, reverse)]
    for got, wanted in zip(results(*spoilt), results(table, reverse), strict=True):
        assert torch.equal(got, wanted)


def test_mean_of_half_precision_is_rounded_once(device):
    """In float16 the sum of these values would be infinite."""
    feats = torch.full((8, 3), 60000.0, dtype=torch.float16, device=device)
    table = torch.arange(8, dtype=torch.int32, device=device)[:, None]
    assert torch.equal(ops.sparse_pool(feats, table, mode="mean"), feats[:1])


def test_number_of_threads_changes_no_bit():
    sample = sample_of("", random_coords(900, low=-9, high=9), GEOMETRIES["down_k3s2"], 5)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append([ops.sparse_pool(**sample.tensors, mode=mode) for mode in MODES])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
