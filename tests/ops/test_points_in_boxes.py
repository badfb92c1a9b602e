# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from pcperc import ops
from pcperc.ops.box_iou import box_frames
from tests import oracles
from tests.op_contract import Mistake, OpContract, Sample
from tests.ops.test_box_iou import random_boxes


class TestPointsInBoxesMask(OpContract):
    dtypes = (torch.float64, torch.float32)

    @staticmethod
    def samples():
        points = torch.rand(200, 3, generator=torch.Generator().manual_seed(4)) * 8 - 4
        return [
            Sample("random", {"points": points, "boxes": random_boxes(8)}),
            Sample("no_points", {"points": points[:0], "boxes": random_boxes(3)}),
            Sample("no_boxes", {"points": points, "boxes": random_boxes(0)}),
        ]

    @staticmethod
    def call(sample):
        return (ops.points_in_boxes_mask(**sample.tensors), ops.points_in_boxes(**sample.tensors))

    @staticmethod
    def oracle(sample):
        mask = torch.from_numpy(oracles.points_in_boxes_mask(**sample.tensors))
        first = mask.int().argmax(1) if mask.shape[1] else torch.zeros(len(mask)).long()
        return mask, torch.where(mask.any(1), first, -1)

    @staticmethod
    def overloads(sample):
        arguments = sample.tensors["points"].double(), box_frames("", "boxes", sample.tensors["boxes"])
        operators = torch.ops.pcperc.points_in_boxes, torch.ops.pcperc.points_in_boxes_mask
        return [(operator.default, arguments) for operator in operators]

    @staticmethod
    def mistakes():
        points, boxes = torch.zeros(2, 3), random_boxes(1)
        return [
            Mistake(
                "points", lambda: ops.points_in_boxes(points[:, :2], boxes), ValueError, "points_in_boxes: points must"
            ),
            Mistake("boxes", lambda: ops.points_in_boxes(points, boxes[:, :6]), ValueError, "boxes must be"),
            Mistake(
                "device", lambda: ops.points_in_boxes(points, boxes.to("meta")), ValueError, "boxes must be on cpu"
            ),
        ]


@pytest.mark.parametrize(
    ("point", "inside"),
    [((2, 0, 0), True), ((2.001, 0, 0), False), ((0, 1, 0), True), ((0, 1.001, 0), False), ((0, 0, -0.5), True),
     ((0, 0, 0.501), False), ((math.nan, 0, 0), False), ((0, math.inf, 0), False)],
)  # fmt: skip
def test_faces_belong_to_the_box(point, inside, device):
    box = torch.tensor([[0, 0, 0, 4, 2, 1, 0.0]], device=device)
    assert (int(ops.points_in_boxes(torch.tensor([point], dtype=torch.float32, device=device), box)) == 0) is inside
