# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from pcperc import ops
from tests import oracles_pool
from tests.op_contract import DifferentiableOpContract, Mistake, Sample, assert_twice_differentiable
from tests.tolerances import tolerances

INDEX = {
    "shuffled": torch.tensor([2, 0, 2, 3, 0, 2], dtype=torch.int32),
    "sorted_int64": torch.tensor([0, 0, 1, 3, 3, 3]),
    "none_of_some": torch.tensor([-1, 0, 4, 9, -(2**31), 1], dtype=torch.int32),
    "none_of_int64": torch.tensor([2**32, 1, -(2**62), 1]),  # the first would be 0 in 32 bits
    "no_rows": torch.zeros(0, dtype=torch.int32),
}


def samples(**options):
    torch.manual_seed(1)
    for name, index in INDEX.items():
        feats = torch.randn(len(index), 3)
        yield Sample(name, {"feats": feats, "index": index}, {"num_segments": 4} | options, terms_summed=len(index) + 1)
    yield Sample("no_segments", {"feats": feats.new_ones(2, 3), "index": INDEX["shuffled"][:2]}, {"num_segments": 0})


def segments_of(sample):
    return ops.make_segments(sample.tensors["index"], num_segments=sample.options["num_segments"])


class TestSegmentReduce(DifferentiableOpContract):
    differentiable = ("feats",)

    @staticmethod
    def samples():
        return list(samples())

    @staticmethod
    def call(sample):
        segments = segments_of(sample)
        return tuple(ops.segment_reduce(sample.tensors["feats"], segments, mode=m) for m in ("sum", "mean", "max"))

    @staticmethod
    def oracle(sample):
        arguments = (sample.tensors["feats"].numpy(), sample.tensors["index"].numpy(), sample.options["num_segments"])
        return tuple(oracles_pool.segment_reduce(*arguments, mode) for mode in ("sum", "mean", "max"))

    @staticmethod
    def overloads(sample):
        if sample.name not in ("shuffled", "no_segments"):
            return []
        feats, segments = sample.tensors["feats"].clone().requires_grad_(), segments_of(sample)
        return [
            (torch.ops.pcperc.segment_dot.default, (feats, None, *segments)),
            (torch.ops.pcperc.segment_max.default, (feats, *segments)),
        ]

    @staticmethod
    def mistakes():
        segments = ops.make_segments(torch.zeros(2).int(), num_segments=1)

        def call(feats, mode="sum"):
            return lambda: ops.segment_reduce(feats, segments, mode=mode)

        def make(index, num_segments=1):
            return lambda: ops.make_segments(index, num_segments=num_segments)

        return [
            Mistake("mode", call(torch.zeros(2, 1), "prod"), ValueError, "mode must be one of max, mean, sum"),
            Mistake("rows", call(torch.zeros(3, 1)), ValueError, "feats must have the 2 rows of segments, got"),
            Mistake("dtype", call(torch.zeros(2, 1).int()), TypeError, "feats must have a floating point dtype"),
            Mistake(
                "segments",
                lambda: ops.segment_reduce(torch.zeros(2, 1), None, mode="sum"),
                TypeError,
                "segments must be Segments from make_segments, got NoneType",
            ),
            Mistake("index", make(torch.zeros(2)), ValueError, r"make_segments: index must be \(M,\) int32 or int64"),
            Mistake("count", make(torch.zeros(2).int(), -1), ValueError, "num_segments must be >= 0, got -1"),
            Mistake("number", make(torch.zeros(2).int(), 1.0), TypeError, "num_segments must be a whole number"),
        ]


class TestSegmentDotAndAffine(DifferentiableOpContract):
    differentiable = ("feats", "factor", "scale", "shift")

    @staticmethod
    def samples():
        found = []
        for sample in samples():
            shape = (sample.options["num_segments"], 3)
            sample.tensors.update(factor=torch.randn_like(sample.tensors["feats"]))
            sample.tensors.update(scale=torch.randn(shape), shift=torch.randn(shape))
            found.append(sample)
        return found

    @staticmethod
    def call(sample):
        feats, factor, scale, shift = (sample.tensors[n] for n in ("feats", "factor", "scale", "shift"))
        segments = segments_of(sample)
        return (
            ops.segment_dot(feats, segments, factor),
            ops.segment_affine(feats, segments, scale=scale, shift=shift),
            ops.segment_affine(feats, segments, scale=scale),
            ops.segment_affine(feats, segments, shift=shift),
        )

    @staticmethod
    def oracle(sample):
        tensors = {name: tensor.numpy() for name, tensor in sample.tensors.items()}
        feats, index, scale, shift = (tensors[n] for n in ("feats", "index", "scale", "shift"))
        return (
            oracles_pool.segment_reduce(feats, index, len(scale), "sum", tensors["factor"]),
            oracles_pool.segment_affine(feats, index, scale, shift),
            oracles_pool.segment_affine(feats, index, scale, 0 * shift),
            oracles_pool.segment_affine(feats, index, 0 * scale + 1, shift),
        )

    @staticmethod
    def overloads(sample):
        if sample.name not in ("shuffled", "no_segments"):
            return []
        leaves = [sample.tensors[n].clone().requires_grad_() for n in ("feats", "factor", "scale", "shift")]
        feats, factor, scale, shift = leaves
        segments = segments_of(sample)
        affine = torch.ops.pcperc.segment_affine.default
        return [
            (torch.ops.pcperc.segment_dot.default, (feats, factor, *segments)),
            (affine, (feats, scale, shift, *segments)),
            (affine, (feats, None, None, *segments)),
            (affine, (None, None, shift, *segments)),
        ]

    @staticmethod
    def mistakes():
        segments = ops.make_segments(torch.zeros(2).int(), num_segments=1)
        feats = torch.zeros(2, 3)

        def affine(**options):
            return lambda: ops.segment_affine(feats, segments, **options)

        return [
            Mistake(
                "scale", affine(scale=torch.zeros(2, 3)), ValueError, r"scale must be \(1, 3\) on cpu, got \(2, 3\)"
            ),
            Mistake(
                "shift", affine(shift=torch.zeros(1, 3).int()), TypeError, "shift must have a floating point dtype"
            ),
            Mistake(
                "factor",
                lambda: ops.segment_dot(feats, segments, feats.half()),
                ValueError,
                r"segment_dot: factor must be like feats, \(2, 3\) float32",
            ),
        ]


def test_double_backward(device):
    segments = ops.make_segments(INDEX["none_of_some"].to(device), num_segments=4)
    leaves = [torch.randn(6, 2, dtype=torch.float64, device=device, requires_grad=True) for _ in range(2)]
    leaves += [torch.randn(4, 2, dtype=torch.float64, device=device, requires_grad=True) for _ in range(2)]
    assert_twice_differentiable(lambda x, y: ops.segment_dot(x, segments, y).square(), leaves[:2])
    affine = leaves[1:]
    assert_twice_differentiable(lambda x, a, b: ops.segment_affine(x, segments, scale=a, shift=b).square(), affine)
    assert_twice_differentiable(lambda x: ops.segment_reduce(x, segments, mode="max").square(), leaves[:1])


@pytest.mark.parametrize("channels", [1, 3, 33])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_segments_of_many_chunks(channels, is_sorted, device):
    """Chunks are 1024 rows; segments of none, one, exactly two chunks and a few more."""
    index = torch.repeat_interleave(torch.arange(6), torch.tensor([0, 1, 2048, 0, 3000, 1025]))
    if not is_sorted:
        index = index[torch.randperm(len(index))]
    feats = torch.randn(len(index), channels)
    segments = ops.make_segments(index.to(device), num_segments=6)
    assert segments.starts.diff().tolist() == [0, 1, 2048, 0, 3000, 1025]
    for mode in ("sum", "mean", "max"):
        got = ops.segment_reduce(feats.to(device), segments, mode=mode).cpu()
        wanted = oracles_pool.segment_reduce(feats.double().numpy(), index.numpy(), 6, mode)
        torch.testing.assert_close(got.double(), torch.from_numpy(wanted), **tolerances(torch.float32, 3000))


def test_the_first_of_equal_rows_and_nan_win(device):
    """Ten thousand equal rows, shuffled between two segments; NaN at two rows of one channel."""
    index = torch.arange(10_000) % 2
    feats = torch.ones(10_000, 2)
    feats[[7777, 3333], 1] = torch.nan
    segments = ops.make_segments(index.to(device), num_segments=2)
    values, rows = torch.ops.pcperc.segment_max(feats.to(device), *segments)
    assert rows.tolist() == [[0, 0], [1, 3333]]
    assert values.isnan().tolist() == [[False, False], [False, True]]
    feats[:, 0] = -torch.inf
    assert torch.ops.pcperc.segment_max(feats.to(device), *segments)[1][:, 0].tolist() == [0, 1]


def test_number_of_threads_changes_no_bit():
    index = torch.randint(3, (20_000,))
    feats = torch.randn(20_000, 5)
    segments = ops.make_segments(index, num_segments=3)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append([ops.segment_reduce(feats, segments, mode=mode) for mode in ("sum", "mean", "max")])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_segments_that_are_wrong_stay_inside_the_buffers(device):
    """No value of the index tensors reads or writes out of bounds; results are of no use."""
    feats = torch.randn(5, 3, device=device, requires_grad=True)
    wrong = [torch.tensor(v, dtype=torch.int32, device=device) for v in ([9, -9, 2**31 - 1, 0, 1],) * 2]
    for starts in ([-5, 9, 2, 2**31 - 1], [4, 3, 2, 1], [0, 0, 0, 2**31 - 1]):
        segments = (*wrong, torch.tensor(starts, dtype=torch.int32, device=device))
        assert torch.ops.pcperc.segment_dot(feats, feats, *segments).shape == (3, 3)
        assert torch.ops.pcperc.segment_max(feats, *segments)[0].shape == (3, 3)
        scale = torch.randn(3, 3, device=device)
        assert torch.ops.pcperc.segment_affine(feats, scale, scale, *segments).shape == (5, 3)


def test_mean_of_half_precision_is_rounded_once(device):
    feats = torch.full((3000, 2), 60000.0, dtype=torch.float16, device=device)
    segments = ops.make_segments(torch.zeros(3000, dtype=torch.int32, device=device), num_segments=1)
    assert torch.equal(ops.segment_reduce(feats, segments, mode="mean"), feats[:1])
