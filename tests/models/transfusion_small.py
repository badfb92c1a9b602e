# SPDX-License-Identifier: Apache-2.0
"""A small TransFusion head, boxes and an output for it, shared by the tests of its parts."""

import math

import torch

from pcperc.models.bevfusion.box_coder import BoxCoder
from pcperc.models.bevfusion.target_assigner import HungarianAssigner
from pcperc.models.bevfusion.transfusion_head import TransFusionHead
from pcperc.models.bevfusion.transfusion_loss import HeadOutput, TransFusionLoss
from pcperc.models.bevfusion.truth import Truth

RANGE = (-8.0, -6.0, -5.0, 8.0, 6.0, 3.0)
CODER = BoxCoder(RANGE, (1.0, 1.0))  # 16 x 12 cells
NAN = float("nan")


def make_head(**changes) -> TransFusionHead:
    settings = dict(hidden_channels=16, num_proposals=12, num_heads=2, ffn_channels=32, branch_channels=8, dropout=0.0)
    settings |= dict(crowded_classes=(2,), num_classes=3)
    return TransFusionHead(
        6, box_coder=CODER, criterion=TransFusionLoss(HungarianAssigner(RANGE)), **settings | changes
    )


def sample(boxes, labels) -> dict:
    return {"boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 9), "labels": torch.tensor(labels).long()}


TWO_OBJECTS = sample([[2.3, -1.2, 0.5, 4, 2, 1.5, 0.7, 1, 0], [-5.6, 3.1, -1, 1, 1, 2, -2.5, NAN, NAN]], [0, 2])
NOTHING = sample([], [])


def truth_of(*samples: dict, device: str = "cpu") -> Truth:
    return Truth.of(samples, CODER, device, batch_size=len(samples), num_classes=3, op="test")


def random_boxes(count: int, dtype=torch.float64) -> torch.Tensor:
    boxes = torch.rand(count, 9, dtype=dtype)
    boxes[:, :3] = boxes[:, :3] * torch.tensor([16, 12, 4]) + torch.tensor([-8, -6, -3])
    boxes[:, 3:6] = boxes[:, 3:6] * 5 + 0.1
    boxes[:, 6] = (boxes[:, 6] * 2 - 1) * math.pi
    return boxes


def output_for(codes, logits=None, labels=None, scores=None) -> HeadOutput:
    batch, count = codes.shape[:2]
    return HeadOutput(
        torch.zeros(batch, 3, *CODER.grid_shape),
        torch.zeros(batch, count, dtype=torch.int64) if labels is None else labels,
        torch.ones(batch, count) if scores is None else scores,
        [codes],
        [torch.zeros(batch, count, 3) if logits is None else logits],
    )
