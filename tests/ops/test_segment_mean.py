# SPDX-License-Identifier: Apache-2.0
import torch

from pcperc import ops
from tests import oracles_pool
from tests.op_contract import DifferentiableOpContract, Mistake
from tests.ops.test_segment_reduce import samples, segments_of
from tests.tolerances import tolerances


class TestSegmentMean(DifferentiableOpContract):
    differentiable = ("feats",)

    @staticmethod
    def samples():
        return list(samples())

    @staticmethod
    def call(sample):
        return ops.segment_mean(sample.tensors["feats"], segments_of(sample))

    @staticmethod
    def oracle(sample):
        arguments = (sample.tensors["feats"].numpy(), sample.tensors["index"].numpy(), sample.options["num_segments"])
        return oracles_pool.segment_reduce(*arguments, "mean")

    @staticmethod
    def overloads(sample):
        if sample.name not in ("shuffled", "no_segments"):
            return []
        feats, (_, order, starts) = sample.tensors["feats"].clone().requires_grad_(), segments_of(sample)
        return [(torch.ops.pcperc.segment_mean.default, (feats, order, starts[:-1], starts.diff()))]

    @staticmethod
    def mistakes():
        segments = ops.make_segments(torch.zeros(2).int(), num_segments=1)

        def call(feats, segments=segments):
            return lambda: ops.segment_mean(feats, segments)

        return [
            Mistake(
                "rows", call(torch.zeros(3, 1)), ValueError, "segment_mean: feats must have the 2 rows of segments"
            ),
            Mistake("dtype", call(torch.zeros(2, 1).int()), TypeError, "feats must have a floating point dtype"),
            Mistake("segments", call(torch.zeros(2, 1), None), TypeError, "segment_mean: segments must be Segments"),
        ]


def test_means_of_many_segments_that_are_empty_or_short_and_one_that_is_long(device):
    index = torch.cat([torch.randint(50_000, (3000,)), torch.full((5000,), 49_999)])[torch.randperm(8000)]
    feats = torch.randn(8000, 5)
    segments = ops.make_segments(index.to(device), num_segments=50_000)
    for rows in (feats, feats.t().contiguous().t()):
        got = ops.segment_mean(rows.to(device), segments).cpu()
        wanted = oracles_pool.segment_reduce(feats.double().numpy(), index.numpy(), 50_000, "mean")
        torch.testing.assert_close(got.double(), torch.from_numpy(wanted), **tolerances(torch.float32, 5000))


def test_a_mean_of_a_million_rows_keeps_its_digits(device):
    """One float32 sum, value by value, would be 0.9 percent off."""
    feats = 100 + torch.rand(1_000_000, 1)
    segments = ops.make_segments(torch.zeros(len(feats), dtype=torch.int32, device=device), num_segments=1)
    mean = ops.segment_mean(feats.to(device), segments).cpu().double()
    torch.testing.assert_close(mean, feats.double().mean(0, keepdim=True), rtol=1e-5, atol=0)


def test_a_mean_in_half_precision_is_rounded_once(device):
    feats = torch.full((3000, 2), 60000.0, dtype=torch.float16, device=device)
    segments = ops.make_segments(torch.zeros(3000, dtype=torch.int32, device=device), num_segments=1)
    assert torch.equal(ops.segment_mean(feats, segments), feats[:1])


def test_segments_that_are_wrong_stay_inside_the_buffers(device):
    """No value of the index tensors reads or writes out of bounds; results are of no use."""
    feats = torch.randn(5, 3, device=device, requires_grad=True)
    order, counts, starts = (
        torch.tensor(values, dtype=torch.int32, device=device)
        for values in ([9, -9, 2**31 - 1, 0, 1], [2**31 - 1, -4, 9], [-5, 2**31 - 1, 2])
    )
    mean = torch.ops.pcperc.segment_mean(feats, order, starts, counts)
    mean.sum().backward()
    assert mean.shape == (3, 3) and feats.grad.shape == (5, 3)
