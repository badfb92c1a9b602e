# SPDX-License-Identifier: Apache-2.0
"""A training step of a super network is the mean of plain networks' steps: the largest on labels, others on it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pcperc.datasets import collate
from pcperc.models import SPVNAS, SegmentationLoss, VoxelPreprocessor
from pcperc.models.losses import lovasz_softmax_loss
from pcperc.models.spvnas import SearchSpace, SuperSegmentor
from tests import oracles_segmentation as oracle
from tests.nn.blocks import randomised

SPACE = SearchSpace((16, 16, 16, 16, 32, 16, 32, 16, 32), (16,) * 9)
CLASSES = 3


def super_segmentor(**options) -> SuperSegmentor:
    net = randomised(SPVNAS(4, CLASSES, space=SPACE, dropout=0.0)).double()
    preprocessor = VoxelPreprocessor(0.5, points="one_per_voxel")
    return SuperSegmentor(preprocessor, net, SegmentationLoss(lovasz=1.0), **options).train()


def batch_of(*sizes: int) -> dict:
    samples = []
    for i, count in enumerate(sizes):
        rng = np.random.default_rng(i)
        labels = np.where(rng.uniform(size=count) < 0.2, 255, rng.integers(0, CLASSES, count))
        samples.append({"points": rng.uniform(-3, 3, (count, 5)).astype(np.float32), "point_labels": labels})
    return collate(samples)


def prepared_of(model, batch):
    """The batch on its way to the loss, its features in double precision."""
    data = model.data_preprocessor(batch, True)
    prepared = data["inputs"]["prepared"]
    data["inputs"]["prepared"] = prepared._replace(points=prepared.points.double())
    return data


def divergence(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean over points of ``sum_c p_c log(p_c / q_c)``."""
    p, q = (logits.exp() / logits.exp().sum(1, keepdim=True) for logits in (teacher, student))
    return (p * (p / q).log()).sum() / len(p)


def test_losses_gradients_and_statistics_are_those_of_plain_networks():
    model = super_segmentor(num_random=2)
    model.step += 5
    data = prepared_of(model, batch_of(50, 40))
    subnets = model.subnets(5)
    plain = [model.backbone.extract(subnet) for subnet in subnets]
    losses = model(**data, mode="loss")
    sum(losses.values()).backward()

    prepared = data["inputs"]["prepared"]
    labels = torch.cat([sample["point_labels"] for sample in data["samples"]])[prepared.row_point]
    assert 0 < len(labels) < 90 and (labels == 255).any()
    logits = [net(prepared.points).feats for net in plain]
    teacher = logits[0].detach()
    distillation = sum(divergence(student, teacher) for student in logits[1:])
    rows = (teacher.tolist(), labels.tolist())
    expected = {
        "loss_cross_entropy": oracle.cross_entropy(*rows, [1.0] * CLASSES) / 4,
        "loss_lovasz": oracle.lovasz_softmax(*rows) / 4,
        "loss_distillation": distillation.item() / 4,
    }
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-6)

    whole = F.cross_entropy(logits[0], labels, ignore_index=255) + lovasz_softmax_loss(logits[0], labels)
    ((whole + distillation) / 4).backward()
    own = model.backbone.net
    by_hand = sum(net.stem[0].conv.weight.grad for net in plain)  # the stem has one width
    torch.testing.assert_close(own.stem[0].conv.weight.grad, by_hand, rtol=1e-4, atol=1e-7)
    by_hand = torch.zeros_like(own.classifier.weight)
    for net in plain:
        by_hand[:, : net.classifier.in_features] += net.classifier.weight.grad
    torch.testing.assert_close(own.classifier.weight.grad, by_hand, rtol=1e-4, atol=1e-7)

    # The largest subnet is what evaluation runs: the statistics are its own, after one step.
    expected = {key: value for key, value in plain[0].state_dict().items() if "running" in key}
    for key, value in expected.items():
        torch.testing.assert_close(own.state_dict()[key], value, msg=key)
    assert own.stem[0].norm.momentum == 0.1 and model.backbone.subnet == SPACE.largest()


def test_a_step_has_both_ends_and_its_own_random_subnets():
    model = super_segmentor(num_random=3)
    for step in range(3):
        subnets = model.subnets(step)
        assert subnets[:2] == [SPACE.largest(), SPACE.smallest()] and subnets == model.subnets(step)
        for subnet in subnets:
            SPACE.check(subnet)
    drawn = [subnet for step in range(3) for subnet in model.subnets(step)[2:]]
    assert len(set(drawn)) == 9, "other ones each time"
    with pytest.raises(ValueError, match="SuperSegmentor: num_random must be >= 0, got -1"):
        super_segmentor(num_random=-1)


def test_only_training_counts_steps():
    model, seen = super_segmentor(num_random=1), []
    subnets = model.subnets
    model.subnets = lambda step: seen.append(step) or subnets(step)
    data = prepared_of(model, batch_of(20))
    for training in (False, True, True):
        model.train(training)
        with torch.no_grad():
            model(**data, mode="loss")
    assert seen == [0, 0, 1] and int(model.state_dict()["step"]) == 2


@pytest.mark.parametrize("sizes", [(0,), (1, 0)])
def test_scans_of_no_point_or_one(sizes):
    model = super_segmentor()
    losses = model(**prepared_of(model, batch_of(*sizes)), mode="loss")
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
