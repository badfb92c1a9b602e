# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pcperc import ops
from pcperc.ops.box_iou import box_frames
from tests import oracles
from tests.op_contract import Mistake, OpContract, Sample


def random_boxes(count, seed=0, spread=4.0):
    generator = np.random.default_rng(seed)
    boxes = np.concatenate(
        [
            generator.uniform(-spread, spread, (count, 2)),
            generator.uniform(-1, 1, (count, 1)),
            generator.uniform(0.5, 5, (count, 3)),
            generator.uniform(-4, 4, (count, 1)),
            generator.normal(size=(count, 2)),
        ],
        1,
    )
    return torch.from_numpy(boxes).float()


UNIT = [0.0, 0, 0, 2, 2, 2, 0]
HAND_MADE = {  # (a, b, IoU from above, IoU of volumes)
    "same": (UNIT, UNIT, 1.0, 1.0),
    "turned_by_90": ([0, 0, 0, 4, 2, 2, 0], [0, 0, 0, 2, 4, 2, math.pi / 2], 1.0, 1.0),
    "turned_by_180": ([1, 2, 0, 4, 2, 2, 0.3], [1, 2, 0, 4, 2, 2, 0.3 + math.pi], 1.0, 1.0),
    "half_aside": (UNIT, [1, 0, 0, 2, 2, 2, 0], 1 / 3, 1 / 3),
    "half_above": (UNIT, [0, 0, 1, 2, 2, 2, 0], 1.0, 1 / 3),
    "inside": (UNIT, [0, 0, 0, 1, 1, 1, 0], 1 / 4, 1 / 8),
    "touching": (UNIT, [2, 0, 0, 2, 2, 2, 0], 0.0, 0.0),
    "apart": (UNIT, [9, 9, 0, 2, 2, 2, 0], 0.0, 0.0),
    "octagon": (UNIT, [0, 0, 0, 2, 2, 2, math.pi / 4], 1 / math.sqrt(2), 1 / math.sqrt(2)),
    "size_zero": (UNIT, [0, 0, 0, 0, 0, 0, 0], 0.0, 0.0),
    "both_zero": ([0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0], 0.0, 0.0),
    "far_away": ([4e4, -4e4, 0, 4, 2, 2, 0.7], [4e4, -4e4, 0, 4, 2, 2, 0.7], 1.0, 1.0),
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_computed_overlaps(name, device):
    a, b, from_above, of_volumes = HAND_MADE[name]
    a, b = (torch.tensor([box], dtype=torch.float32, device=device) for box in (a, b))
    assert float(ops.box_iou_bev(a, b)) == pytest.approx(from_above, abs=1e-5)
    assert float(ops.box_iou_3d(a, b)) == pytest.approx(of_volumes, abs=1e-5)


class IouContract(OpContract):
    dtypes = (torch.float64, torch.float32)

    @staticmethod
    def samples():
        return [
            Sample("random", {"boxes_a": random_boxes(12), "boxes_b": random_boxes(9, seed=1)}, terms_summed=100),
            Sample("shared", {"boxes_a": random_boxes(6), "boxes_b": random_boxes(6)}, terms_summed=100),
            Sample("no_a", {"boxes_a": random_boxes(0), "boxes_b": random_boxes(2)}),
            Sample("no_b", {"boxes_a": random_boxes(2), "boxes_b": random_boxes(0)}),
        ]

    @staticmethod
    def overloads(sample):
        frames = [box_frames("", name, boxes) for name, boxes in sample.tensors.items()]
        return [(torch.ops.pcperc.box_iou.default, (*frames, with_height)) for with_height in (False, True)]


class TestBoxIouBev(IouContract):
    @staticmethod
    def call(sample):
        return (ops.box_iou_bev(**sample.tensors),)

    @staticmethod
    def oracle(sample):
        return (oracles.box_iou(**{k[-1]: v for k, v in sample.tensors.items()}, use_height=False),)

    @staticmethod
    def mistakes():
        good = random_boxes(2)
        return [
            Mistake("columns", lambda: ops.box_iou_bev(good[:, :6], good), ValueError, "box_iou_bev: boxes_a must be"),
            Mistake("dtype", lambda: ops.box_iou_bev(good, good.int()), TypeError, "boxes_b must have a floating"),
            Mistake("device", lambda: ops.box_iou_bev(good, good.to("meta")), ValueError, "boxes_b must be on cpu"),
            Mistake(
                "scores",
                lambda: ops.nms_bev(good, torch.zeros(3), iou_threshold=0.5),
                ValueError,
                r"scores must be \(2,\)",
            ),
            Mistake(
                "no_tensor",
                lambda: ops.nms_bev(good, np.zeros(2), iou_threshold=0.5),
                TypeError,
                "scores must be a tensor, got ndarray",
            ),
            Mistake(
                "threshold_text",
                lambda: ops.nms_bev(good, torch.zeros(2), iou_threshold="0.5"),
                TypeError,
                "iou_threshold must be a number, got str",
            ),
            Mistake(
                "distance_none",
                lambda: ops.circle_nms(good[:, :2], torch.zeros(2), min_distance=None),
                TypeError,
                "min_distance must be a number, got NoneType",
            ),
            Mistake(
                "threshold",
                lambda: ops.nms_bev(good, torch.zeros(2), iou_threshold=2),
                ValueError,
                r"in \[0, 1\], got 2",
            ),
            Mistake(
                "distance",
                lambda: ops.circle_nms(good[:, :2], torch.zeros(2), min_distance=-1),
                ValueError,
                ">= 0, got -1",
            ),
            Mistake(
                "sorted_columns",
                lambda: ops.nms_bev_sorted(good[:, :6], iou_threshold=0.5),
                ValueError,
                "nms_bev_sorted:",
            ),
            Mistake(
                "sorted_threshold",
                lambda: ops.nms_bev_sorted(good, iou_threshold=-0.1),
                ValueError,
                r"nms_bev_sorted: iou_threshold must be in \[0, 1\], got -0.1",
            ),
            Mistake(
                "sorted_centers", lambda: ops.circle_nms_sorted(good, min_distance=1), ValueError, "circle_nms_sorted:"
            ),
            Mistake(
                "sorted_distance",
                lambda: ops.circle_nms_sorted(good[:, :2], min_distance=float("nan")),
                ValueError,
                "circle_nms_sorted: min_distance must be finite",
            ),
        ]


class TestBoxIou3d(IouContract):
    @staticmethod
    def call(sample):
        return (ops.box_iou_3d(**sample.tensors),)

    @staticmethod
    def oracle(sample):
        return (oracles.box_iou(**{k[-1]: v for k, v in sample.tensors.items()}, use_height=True),)

    @staticmethod
    def mistakes():
        good = random_boxes(2)
        return [Mistake("rows", lambda: ops.box_iou_3d(good, good[0]), ValueError, "box_iou_3d: boxes_b must be")]


sizes, places, angles = st.floats(0.01, 20), st.floats(-3, 3), st.floats(-7, 7)
boxes = st.tuples(places, places, places, sizes, sizes, sizes, angles)


@settings(max_examples=150, deadline=None)
@given(boxes, boxes)
@example((0.0, 0.0, 0.0, 9.0, 1.0, 1.0, -(2.0**-7)), (7.548689937201213e-16, 0.0, 0.0, 9.0, 1.0, 1.0, -(2.0**-7)))
def test_any_two_boxes_agree_with_polygon_clipping(a, b):
    first, second = (torch.tensor([box], dtype=torch.float64) for box in (a, b))
    expected = oracles.box_iou(first, second, use_height=False)
    assert np.allclose(ops.box_iou_bev(first, second), expected, atol=1e-7)
    assert np.allclose(ops.box_iou_bev(second, first), expected.T, atol=1e-7)
    assert float(ops.box_iou_bev(first, first)) == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("count", [0, 1, 60, 300])
def test_nms_keeps_what_greedy_suppression_keeps(count, threshold, device):
    found = random_boxes(count, spread=8.0)
    scores = torch.round(torch.rand(count) * 50) / 50  # many ties
    kept = ops.nms_bev(found.to(device), scores.to(device), iou_threshold=threshold)
    overlap = oracles.box_iou(found, found, use_height=False) if count <= 60 else ops.box_iou_bev(found, found).numpy()
    assert kept.cpu().tolist() == oracles.greedy_nms(overlap, scores.tolist(), threshold)


@pytest.mark.parametrize("count", [0, 1, 200])
def test_circle_nms_keeps_centres_that_are_far_apart(count, device):
    centers, scores = torch.rand(count, 2) * 10, torch.rand(count)
    kept = ops.circle_nms(centers.to(device), scores.to(device), min_distance=1.0)
    closeness = -torch.cdist(centers.double(), centers.double()).numpy().reshape(count, count)
    assert kept.cpu().tolist() == oracles.greedy_nms(closeness, scores.tolist(), -1.0)


@pytest.mark.parametrize("count", [0, 1, 200])
def test_sorted_rows_are_not_ranked_again(count, device):
    """A row of NaN stays and lets all others stay."""
    found, scores = random_boxes(count, spread=8.0).to(device), torch.arange(count, 0, -1.0, device=device)
    gone = torch.arange(count, device=device) % 3 == 1
    some = found.where(~gone[:, None], float("nan"))
    for operator, ranked, columns, options in (
        (ops.nms_bev_sorted, ops.nms_bev, 7, {"iou_threshold": 0.1}),
        (ops.circle_nms_sorted, ops.circle_nms, 2, {"min_distance": 1.0}),
    ):
        keep = operator(some[:, :columns], **options)
        alone = ranked(found[~gone][:, :columns], scores[~gone], **options)
        assert keep.dtype == torch.bool and keep[gone].all() and (count < 2 or len(alone) < (~gone).sum())
        assert torch.equal(keep[~gone].nonzero()[:, 0], alone)


@pytest.mark.parametrize("count", [0, 5])
def test_opcheck_of_suppression(count, device):
    boxes = random_boxes(count).to(device)
    torch.library.opcheck(torch.ops.pcperc.nms_bev.default, (box_frames("", "boxes", boxes), 0.5))
    torch.library.opcheck(torch.ops.pcperc.circle_nms.default, (boxes[:, :2].double().contiguous(), 1.0))
