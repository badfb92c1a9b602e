# SPDX-License-Identifier: Apache-2.0
"""Losses of the TransFusion head: by hand, averaged over a batch, and finite for every batch."""

import math

import numpy as np
import pytest
import torch

from pcperc.models.bevfusion.box_coder import BoxCoder
from pcperc.models.bevfusion.target_assigner import HungarianAssigner, draw_heatmap
from pcperc.models.bevfusion.transfusion_loss import HeadOutput, TransFusionLoss
from tests import oracles_transfusion
from tests.models.transfusion_small import CODER, NOTHING, TWO_OBJECTS, make_head, output_for, random_boxes, sample


def test_losses_by_hand():
    """Three proposals, two objects; the first proposal is 0.4 cells off in x, its velocity (2, 0) off."""
    head, truth = make_head(), TWO_OBJECTS
    codes = CODER.encode(truth["boxes"])
    codes = torch.cat([codes, codes[:1] + 5.0]).nan_to_num(123.0)[None].requires_grad_()
    offset = torch.zeros(1, 3, 10)
    offset[0, 0, 0], offset[0, 0, 8] = 0.4, 2.0
    losses = head.loss(output_for(codes + offset), [truth])
    # box: 0.25 * (0.4 + 0.2 * 2) / 2 positives; the second object's unknown velocity is free
    assert losses["loss_box"].item() == pytest.approx(0.25 * 0.8 / 2, rel=1e-5)
    # class logits 0: 2 positives (0.25 weight), 7 other entries (0.75), all with p = 0.5; over 2 positives
    entry = 0.25 * math.log(2)
    assert losses["loss_cls"].item() == pytest.approx((2 * 0.25 + 7 * 0.75) * entry / 2, rel=1e-5)
    # heatmap logits 0: peaks cost 0.25 log 2, the rest (1 - t)^4 of that; two peaks
    target = draw_heatmap(
        CODER.to_cells(truth["boxes"][:, :2]),
        truth["boxes"][:, 3:5],
        truth["labels"],
        num_classes=3,
        grid_shape=CODER.grid_shape,
        min_overlap=0.1,
        min_radius=2,
    )
    expected = entry * (2 + ((1 - target) ** 4).sum().item()) / 2
    assert losses["loss_heatmap"].item() == pytest.approx(expected, rel=1e-5)
    # a 0.4 m shift along x of a box 4 x 2 m turned by 0.7 rad still overlaps well; the other is exact
    assert 0.7 < losses["matched_iou"].item() < 0.95
    losses["loss_box"].backward()
    assert codes.grad[0, 1, 8:].tolist() == [0.0, 0.0]
    assert codes.grad[0, 2].abs().max() == 0


@pytest.mark.parametrize("seed", range(4))
def test_losses_of_batches_equal_the_loops(seed):
    """Oblong cells and range; proposals near the objects of their sample, in any order, some of them rivals."""
    rng = np.random.default_rng(seed)
    long_range, grid = (-16.0, -3.0, -5.0, 16.0, 3.0, 3.0), ((-16.0, -3.0), (2.0, 0.75), (16, 8))
    coder, truth, codes = BoxCoder(long_range, (2.0, 0.75)), [], []
    for count in (3, 0, 4):
        boxes = np.c_[rng.uniform((-16, -3, -2), (16, 3, 1), (count, 3)), rng.uniform(0.5, 6, (count, 3)),
                      rng.uniform(-3, 3, count), rng.normal(size=(count, 2))]  # fmt: skip
        boxes[1:2, 7:] = np.nan
        truth.append((boxes.tolist(), rng.integers(0, 3, count).tolist()))
        near = [oracles_transfusion.wanted_code(boxes[rng.integers(count)], grid) for _ in range(5) if count]
        near = np.nan_to_num(np.array(near) if count else rng.normal(size=(5, 10)))
        codes.append(near + rng.normal(size=near.shape) * ([1.5, 1.5, 0.5] + [0.3] * 7))
    heatmap, logits = rng.normal(size=(3, 3, 16, 8)), rng.normal(size=(3, 5, 3)) * 2
    expected = oracles_transfusion.losses(heatmap, np.array(codes), logits, truth, grid)
    parts = [torch.from_numpy(np.float32(part)) for part in (heatmap, np.stack(codes), logits)]
    unused = torch.zeros(3, 5)
    output = HeadOutput(parts[0], unused.long(), unused, [parts[1]], [parts[2]])
    found = TransFusionLoss(HungarianAssigner(long_range))(output, [sample(*one) for one in truth], coder)
    for name, value, factor in zip(("heatmap", "cls", "box"), expected, (1.0, 1.0, 0.25), strict=True):
        assert found[f"loss_{name}"].item() == pytest.approx(factor * value, rel=1e-4), name


def test_losses_average_over_the_batch():
    head = make_head()
    codes = CODER.encode(TWO_OBJECTS["boxes"]).nan_to_num(0.0)[None]
    codes = torch.cat([codes + 0.1, codes])
    one = head.loss(output_for(codes[:1]), [TWO_OBJECTS])
    both = head.loss(output_for(codes), [TWO_OBJECTS, TWO_OBJECTS])
    assert both["loss_box"].item() == pytest.approx(one["loss_box"].item() / 2, rel=1e-4)
    assert both["loss_cls"].item() == pytest.approx(one["loss_cls"].item(), rel=1e-5)


@pytest.mark.parametrize(
    "samples",
    [
        [NOTHING, NOTHING],
        [NOTHING, TWO_OBJECTS],
        [sample([[2, 2, 0, 0, 2, 1.5, 0, 0, 0]], [0]), sample([[99, 2, 0, 4, 2, 1.5, 0, 0, 0]], [1])],
        [sample(random_boxes(30).tolist(), [1] * 30), TWO_OBJECTS],
    ],
    ids=["no-objects", "one-empty", "useless-boxes", "more-objects-than-proposals"],
)
@pytest.mark.parametrize("layers", [1, 2])
def test_every_batch_has_finite_losses_and_gradients(samples, layers):
    head = make_head(num_decoder_layers=layers)
    losses = head.loss(head(torch.randn(2, 6, 16, 12)), samples)
    assert set(losses) >= {"loss_heatmap", "loss_cls", "loss_box", "matched_iou"}
    assert ("loss_box_layer0" in losses) == (layers == 2)
    sum(value for name, value in losses.items() if "loss" in name).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
