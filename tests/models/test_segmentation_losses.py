# SPDX-License-Identifier: Apache-2.0
"""Cross entropy and Lovasz-softmax against plain loops over their formulas."""

import pytest
import torch
from torch import nn

from pcperc.models.losses import SegmentationLoss, cross_entropy_loss, lovasz_softmax_loss
from tests import oracles_segmentation as oracle


def batch(seed: int, *, count=40, classes=5, used=4):
    """Logits and labels with ignored points; the last classes do not occur."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, dtype=torch.float64, generator=generator) * 2
    labels = torch.randint(0, used, (count,), generator=generator)
    labels[torch.rand(count, generator=generator) < 0.2] = 255
    return logits.requires_grad_(), labels


@pytest.mark.parametrize("seed", range(4))
def test_lovasz_softmax_is_the_papers(seed, device):
    logits, labels = batch(seed)
    found = lovasz_softmax_loss(logits.to(device), labels.to(device))
    assert found.item() == pytest.approx(oracle.lovasz_softmax(logits.tolist(), labels.tolist()), rel=1e-12)


def test_lovasz_softmax_of_equal_errors():
    logits = torch.zeros(6, 3, dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1, 2, 255])
    expected = oracle.lovasz_softmax(logits.tolist(), labels.tolist())
    assert lovasz_softmax_loss(logits, labels).item() == pytest.approx(expected, rel=1e-12)


def test_lovasz_softmax_at_certain_predictions_is_one_minus_iou():
    labels, said = torch.tensor([0, 0, 0, 1, 1, 255]), torch.tensor([0, 0, 1, 1, 0, 1])
    logits = nn.functional.one_hot(said, 2).double() * 1000
    iou = oracle.iou_by_sets(labels.tolist(), said.tolist(), 2)
    assert lovasz_softmax_loss(logits, labels).item() == pytest.approx(1 - sum(iou) / 2, rel=1e-12)


def test_lovasz_gradient():
    logits, labels = batch(7, count=12)
    assert torch.autograd.gradcheck(lambda x: lovasz_softmax_loss(x, labels), logits)
    lovasz_softmax_loss(logits, labels).backward()
    assert (logits.grad[labels == 255] == 0).all() and (logits.grad[labels != 255] != 0).any()


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 0.0, 1.0, 7.0]])
def test_cross_entropy_is_the_formula(weights, device):
    logits, labels = batch(3)
    given = None if weights is None else torch.tensor(weights, device=device)
    found = cross_entropy_loss(logits.to(device), labels.to(device), class_weights=given)
    expected = oracle.cross_entropy(logits.tolist(), labels.tolist(), weights or [1.0] * 5)
    assert found.item() == pytest.approx(expected, rel=1e-12)
    loss = SegmentationLoss(cross_entropy=2.0, lovasz=3.0, class_weights=weights).to(device)
    found = loss(logits.to(device), labels.to(device))
    assert found["loss_cross_entropy"].item() == pytest.approx(2 * expected, rel=1e-6)
    lovasz = oracle.lovasz_softmax(logits.tolist(), labels.tolist())
    assert found["loss_lovasz"].item() == pytest.approx(3 * lovasz, rel=1e-12)
    assert SegmentationLoss()(logits, labels).keys() == {"loss_cross_entropy"}


def test_half_precision_is_summed_in_float32():
    logits, labels = batch(1, count=3000)
    for loss in (cross_entropy_loss, lovasz_softmax_loss):
        half = loss(logits.half(), labels)
        assert half.dtype == torch.float32
        assert half.item() == pytest.approx(loss(logits.half().double(), labels).item(), rel=1e-5)


@pytest.mark.parametrize("count", [0, 3])
def test_without_any_class_the_loss_is_zero_and_attached(count):
    logits = torch.randn(count, 4, requires_grad=True)
    losses = SegmentationLoss(lovasz=1.0)(logits, torch.full((count,), 255))
    assert [loss.item() for loss in losses.values()] == [0, 0]
    sum(losses.values()).backward()
    assert (logits.grad == 0).all()


def test_one_point():
    logits = torch.tensor([[2.0, 0.0]])
    losses = SegmentationLoss(lovasz=1.0)(logits, torch.tensor([0]))
    expected = oracle.cross_entropy(logits.tolist(), [0], [1.0, 1.0])
    assert losses["loss_cross_entropy"].item() == pytest.approx(expected)
    assert losses["loss_lovasz"].item() == pytest.approx(oracle.lovasz_softmax(logits.tolist(), [0]))
    light = SegmentationLoss(class_weights=[1e-3, 1.0])(logits, torch.tensor([0]))  # one weight for all of the points
    assert light["loss_cross_entropy"].item() == pytest.approx(expected)


def test_refusals():
    logits = torch.zeros(3, 4)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 4\) or 255, got 4 at point 1"):
        SegmentationLoss()(logits, torch.tensor([0, 4, 255]))
    with pytest.raises(ValueError, match=r"logits must be \(N, C\) and labels \(N,\), got \(3, 4\) and \(2,\)"):
        lovasz_softmax_loss(logits, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="class_weights must be one for each of 4 classes, got 2"):
        SegmentationLoss(class_weights=[1, 2])(logits, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="class_weights must be finite and >= 0"):
        SegmentationLoss(class_weights=[1, float("nan")])
    with pytest.raises(ValueError, match="cross_entropy and lovasz must be >= 0, one above, got 0 and 0"):
        SegmentationLoss(cross_entropy=0, lovasz=0)
