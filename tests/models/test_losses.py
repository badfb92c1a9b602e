# SPDX-License-Identifier: Apache-2.0
"""Detection losses against their formulas in plain float64 loops."""

import math

import pytest
import torch

from pcperc.models.losses import gaussian_focal_loss, mean_over_processes, sigmoid_focal_loss, weighted_l1_loss


def plain_sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def focal_loop(logits, labels, alpha, gamma):
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        for index, logit in enumerate(row):
            p = plain_sigmoid(logit)
            if index == label:
                total -= alpha * (1 - p) ** gamma * math.log(p)
            else:
                total -= (1 - alpha) * p**gamma * math.log(1 - p)
    return total


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.8, 1.5)])
def test_sigmoid_focal_loss_equals_the_formula(alpha, gamma):
    logits = torch.randn(7, 4, dtype=torch.float64) * 3
    labels = torch.tensor([0, 1, 2, 3, 4, 4, 2])  # 4 is background
    found = sigmoid_focal_loss(logits, labels, avg_factor=3, alpha=alpha, gamma=gamma)
    assert found.item() == pytest.approx(focal_loop(logits.tolist(), labels.tolist(), alpha, gamma) / 3, rel=1e-12)


def test_sigmoid_focal_loss_stays_finite_at_extreme_logits():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([1]), avg_factor=1)
    # the true class misses by 200 (weight 0.25), the wrong one is certain (weight 0.75)
    assert loss.item() == pytest.approx(200.0)
    loss.backward()
    assert logits.grad.isfinite().all()


def gaussian_focal_loop(logits, target, alpha, gamma):
    total = 0.0
    for logit, t in zip(logits, target, strict=True):
        p = min(max(plain_sigmoid(logit), 1e-4), 1 - 1e-4)
        total -= (1 - p) ** alpha * math.log(p) if t == 1 else (1 - t) ** gamma * p**alpha * math.log(1 - p)
    return total


def test_gaussian_focal_loss_equals_the_formula():
    logits = torch.randn(60, dtype=torch.float64) * 4
    target = torch.rand(60, dtype=torch.float64)
    target[:5] = 1
    target[5:10] = 0
    target[10:12] = 0.9999  # of a wide Gaussian beside its peak
    logits[0], logits[5] = -30, 30  # beyond the floor
    found = gaussian_focal_loss(logits.view(3, 20), target.view(3, 20), avg_factor=torch.tensor(5))
    assert found.item() == pytest.approx(gaussian_focal_loop(logits.tolist(), target.tolist(), 2, 4) / 5, rel=1e-12)


def test_weighted_l1_loss_equals_the_formula():
    prediction, target = torch.randn(2, 3, 4, dtype=torch.float64).unbind(0)
    weight = torch.tensor([1.0, 2.0, 0.0, 0.5], dtype=torch.float64)
    expected = sum(
        abs(prediction[i, j].item() - target[i, j].item()) * weight[j].item() for i in range(3) for j in range(4)
    )
    assert weighted_l1_loss(prediction, target, weight, avg_factor=2).item() == pytest.approx(expected / 2, rel=1e-12)


def test_weighted_l1_loss_of_unknown_targets_is_zero_with_zero_gradient():
    prediction = torch.ones(2, 2, requires_grad=True)
    target = torch.tensor([[3.0, float("nan")], [float("nan"), 0.5]])
    loss = weighted_l1_loss(prediction, target, torch.ones(2), avg_factor=1)
    assert loss.item() == 2.5
    loss.backward()
    assert prediction.grad.tolist() == [[-1.0, 0.0], [0.0, 1.0]]


def test_losses_of_nothing_are_zero_and_keep_the_graph():
    empty = torch.zeros(0, 10, requires_grad=True)
    total = sigmoid_focal_loss(empty, torch.zeros(0, dtype=torch.int64), avg_factor=1)
    total = total + weighted_l1_loss(empty, torch.zeros(0, 10), torch.ones(10), avg_factor=1)
    assert total.item() == 0
    total.backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_summed_in_float32(dtype):
    logits = torch.randn(5000, 10).to(dtype)
    labels = torch.randint(0, 11, (5000,))
    found = sigmoid_focal_loss(logits, labels, avg_factor=1)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(sigmoid_focal_loss(logits.double(), labels, avg_factor=1).item(), rel=1e-5)
    target = torch.rand(5000, 10)
    found = gaussian_focal_loss(logits, target, avg_factor=1)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(gaussian_focal_loss(logits.double(), target, avg_factor=1).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: sigmoid_focal_loss(torch.zeros(3, 2), torch.zeros(2).long(), avg_factor=1),
            r"got \(3, 2\) and \(2,\)",
        ),
        (lambda: gaussian_focal_loss(torch.zeros(3), torch.zeros(2), avg_factor=1), r"got \(3,\) and \(2,\)"),
        (
            lambda: weighted_l1_loss(torch.zeros(3), torch.zeros(2), torch.ones(1), avg_factor=1),
            r"got \(3,\) and \(2,\)",
        ),
    ],
    ids=["sigmoid_focal", "gaussian_focal", "weighted_l1"],
)
def test_wrong_shapes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("count", "expected"), [(5, 5.0), (0, 1.0)])
def test_mean_over_one_process_is_the_count(count, expected):
    given = torch.tensor(count)
    found = mean_over_processes(given, min_total=1)
    assert found.dtype == torch.float32 and found.item() == expected
    assert given.item() == count


@pytest.mark.parametrize(("here", "elsewhere", "expected"), [(5, 2, 3.5), (0, 7, 3.5), (0, 0, 0.5)])
def test_mean_over_two_processes(monkeypatch, here, elsewhere, expected):
    """At least one object is counted in all, not one in each process: one process with both batches counts so too."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.add_(elsewhere))
    given = torch.tensor(float(here))
    assert mean_over_processes(given, min_total=1).item() == expected
    assert given.item() == here
