# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from pcperc import ops
from tests import oracles_pool
from tests.op_contract import DifferentiableOpContract, Mistake, Sample, assert_twice_differentiable


def sample_of(name, num_rows, num_points, per_point, channels=3):
    rows = torch.randint(-1, num_rows + 1, (num_points, per_point), dtype=torch.int32)
    tensors = {"feats": torch.randn(num_rows, channels), "rows": rows, "weights": torch.randn(num_points, per_point)}
    return Sample(name, tensors, terms_summed=per_point)


class TestWeightedGather(DifferentiableOpContract):
    differentiable = ("feats", "weights")

    @staticmethod
    def samples():
        torch.manual_seed(1)
        return [
            sample_of("corners", 5, 4, 8),
            sample_of("one_each", 5, 6, 1),
            sample_of("no_rows", 0, 3, 2),
            sample_of("no_points", 4, 0, 8),
            sample_of("none_each", 4, 3, 0),
            sample_of("wide", 4, 3, 2, channels=40),
        ]

    @staticmethod
    def call(sample):
        t = sample.tensors
        return (ops.weighted_gather(t["feats"], ops.GatherPlan(t["rows"], t["weights"], len(t["feats"]))),)

    @staticmethod
    def oracle(sample):
        return (oracles_pool.weighted_gather(*(sample.tensors[n].numpy() for n in ("feats", "rows", "weights"))),)

    @staticmethod
    def overloads(sample):
        if sample.name not in ("corners", "no_rows"):
            return []
        feats, rows, weights = (sample.tensors[n] for n in ("feats", "rows", "weights"))
        _, order, starts = ops.make_segments(rows.flatten(), num_segments=len(feats))
        points = torch.randn(len(rows), feats.shape[1], device=feats.device).requires_grad_()
        feats, weights = feats.clone().requires_grad_(), weights.clone().requires_grad_()
        return [
            (torch.ops.pcperc.weighted_gather.default, (feats, rows, weights, order, starts)),
            (torch.ops.pcperc.weighted_scatter.default, (points, rows, weights, order, starts)),
            (torch.ops.pcperc.weighted_gather_dot.default, (points, feats, rows, order, starts)),
        ]

    @staticmethod
    def mistakes():
        rows, weights = torch.zeros(2, 8).int(), torch.ones(2, 8)
        plan = ops.GatherPlan(rows, weights, 5)

        def gather(feats):
            return lambda: ops.weighted_gather(feats, plan)

        def make(rows, weights):
            return lambda: ops.GatherPlan(rows, weights, 5)

        return [
            Mistake("rows", gather(torch.zeros(4, 3)), ValueError, "feats must have the plan's 5 rows, got"),
            Mistake(
                "plan",
                lambda: ops.weighted_gather(torch.zeros(5, 3), rows),
                TypeError,
                "weighted_gather: plan must be a GatherPlan, got ",
            ),
            Mistake("dtype", gather(torch.zeros(5, 3).int()), TypeError, "feats must have a floating point dtype"),
            Mistake("device", gather(torch.zeros(5, 3, device="meta")), ValueError, "plan must be on meta"),
            Mistake(
                "weights", make(rows, weights[:1]), ValueError, r"weights must be \(2, 8\) floating point like rows"
            ),
            Mistake("int64", make(rows.long(), weights), ValueError, r"rows must be \(K, M\) int32"),
        ]


def test_double_backward(device):
    sample = sample_of("", 5, 4, 3, channels=2).to(device, torch.float64)
    feats, weights = (sample.tensors[n].requires_grad_() for n in ("feats", "weights"))

    def run(feats, weights):
        return ops.weighted_gather(feats, ops.GatherPlan(sample.tensors["rows"], weights, 5)).square()

    assert_twice_differentiable(run, [feats, weights])


def test_segments_that_are_wrong_stay_inside_the_buffers(device):
    grad, rows, weights = torch.randn(2, 3), torch.zeros(2, 2).int(), torch.ones(2, 2)
    order = torch.tensor([9, -9, 2**31 - 1, 3], dtype=torch.int32)
    for starts in ([-5, 9, 2, 2**31 - 1], [4, 3, 2, 1]):
        tensors = (grad, rows, weights, order, torch.tensor(starts, dtype=torch.int32))
        assert torch.ops.pcperc.weighted_scatter(*(t.to(device) for t in tensors)).shape == (3, 3)


def test_a_plan_groups_its_rows_once_and_only_for_a_gradient():
    plan = ops.GatherPlan(torch.zeros(2, 2).int(), torch.ones(2, 2), 1)
    ops.weighted_gather(torch.ones(1, 1), plan)
    assert not plan._parts
    ops.weighted_gather(torch.ones(1, 1, requires_grad=True), plan).sum().backward()
    assert plan.by_row is plan.by_row


def test_half_precision_features_keep_float32_weights(device):
    """Weights that float16 would round away."""
    weights = torch.tensor([[1.0, -1.0 + 2.0**-14]], device=device, requires_grad=True)
    feats = torch.full((2, 1), 1024.0, dtype=torch.float16, device=device)
    rows = torch.tensor([[0, 1]], dtype=torch.int32, device=device)
    out = ops.weighted_gather(feats, ops.GatherPlan(rows, weights, 2))
    assert out.dtype == torch.float16 and out.item() == pytest.approx(1024 * 2.0**-14)
    out.sum().backward()
    assert weights.grad.dtype == torch.float32
