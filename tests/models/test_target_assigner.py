# SPDX-License-Identifier: Apache-2.0
"""Heatmap targets, and the match of proposals to objects, against loops and searches."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch

from pcperc.models.bevfusion.box_coder import BoxCoder
from pcperc.models.bevfusion.target_assigner import HungarianAssigner, draw_heatmap, draw_heatmaps, gaussian_radius
from pcperc.models.bevfusion.truth import Truth
from tests.models.transfusion_small import CODER, NAN, NOTHING, RANGE, TWO_OBJECTS, random_boxes, sample, truth_of


def three_case_radius(length: float, width: float, overlap: float) -> float:
    """The released formula, case by case."""
    cases = [
        (1, length + width, length * width * (1 - overlap) / (1 + overlap)),
        (4, 2 * (length + width), (1 - overlap) * length * width),
        (4 * overlap, -2 * overlap * (length + width), (overlap - 1) * length * width),
    ]
    return min((b + math.sqrt(b * b - 4 * a * c)) / 2 for a, b, c in cases)


@pytest.mark.parametrize("overlap", [0.1, 0.5, 0.9])
def test_gaussian_radius_is_the_least_of_three_cases(overlap):
    sizes = np.random.rand(200, 2) * [20, 5] + 0.01
    found = gaussian_radius(*torch.tensor(sizes).unbind(1), min_overlap=overlap)
    expected = [three_case_radius(length, width, overlap) for length, width in sizes]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_gaussian_radius_against_a_search_for_the_overlap():
    """A box that grows by r on each side overlaps the old one by lw / ((l + 2r)(w + 2r)); search r by halving."""
    length, width, overlap = 7.7, 3.1, 0.1
    low, high = 0.0, 100.0
    for _ in range(80):
        middle = (low + high) / 2
        iou = length * width / ((length + 2 * middle) * (width + 2 * middle))
        low, high = (middle, high) if iou > overlap else (low, middle)
    found = gaussian_radius(torch.tensor(length), torch.tensor(width), min_overlap=overlap)
    assert found.item() == pytest.approx(4 * overlap * low, rel=1e-5)


def test_heatmap_equals_loops():
    centers = torch.tensor([[3.2, 4.9], [5.0, 5.0], [15.9, 0.1], [3.9, 4.0]], dtype=torch.float64)
    sizes = torch.tensor([[12.0, 9.0], [1.0, 1.0], [30.0, 30.0], [2.0, 2.0]], dtype=torch.float64)
    labels = [0, 0, 1, 0]
    expected = np.zeros((3, 16, 12))
    for (cx, cy), (length, width), label in zip(centers.tolist(), sizes.tolist(), labels, strict=True):
        radius = max(2, int(three_case_radius(length, width, 0.1)))
        sigma = (2 * radius + 1) / 6
        for x, y in itertools.product(range(16), range(12)):
            dx, dy = x - int(cx), y - int(cy)
            if max(abs(dx), abs(dy)) <= radius:
                value = math.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma))
                expected[label, x, y] = max(expected[label, x, y], value)
    found = draw_heatmap(
        centers, sizes, torch.tensor(labels), num_classes=3, grid_shape=(16, 12), min_overlap=0.1, min_radius=2
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    # two centres of class 0 share the cell (3, 4): one peak; peaks are exactly 1, also in float32
    assert (found == 1).nonzero().tolist() == [[0, 3, 4], [0, 5, 5], [1, 15, 0]]


def test_heatmaps_of_oblong_cells():
    """Length counts in cells along x and width in cells along y, as published: 48 x 3 cells here, not 12 x 12."""
    coder = BoxCoder((-16.0, -16.0, -5.0, 16.0, 16.0, 3.0), (0.5, 2.0))
    box = sample([[0.2, 0.2, 0, 24, 6, 1.5, 0, 0, 0]], [0])
    truth = Truth.of([box], coder, "cpu", batch_size=1, num_classes=1, op="test")
    found = draw_heatmaps(truth, coder, num_classes=1, min_overlap=0.5, min_radius=1)
    radius = int(three_case_radius(48, 3, 0.5))
    assert radius != int(three_case_radius(12, 12, 0.5))
    assert (found[0, 0] > 0).any(1).sum() == 2 * radius + 1


def aligned_iou(a, b) -> float:
    """Intersection over union of two boxes with yaw 0."""
    shared = 1.0
    for axis in range(3):
        low = max(a[axis] - a[axis + 3] / 2, b[axis] - b[axis + 3] / 2)
        high = min(a[axis] + a[axis + 3] / 2, b[axis] + b[axis + 3] / 2)
        shared *= max(high - low, 0.0)
    return shared / (math.prod(a[3:6]) + math.prod(b[3:6]) - shared)


def pair_cost(proposal, logits, box, label) -> float:
    p = 1 / (1 + math.exp(-logits[label]))
    focal = -0.25 * (1 - p) ** 2 * math.log(p) + 0.75 * p**2 * math.log(1 - p)
    center = abs(proposal[0] - box[0]) / 16 + abs(proposal[1] - box[1]) / 12
    return 0.15 * focal + 0.25 * center - 0.25 * aligned_iou(proposal, box)


@pytest.mark.parametrize(("num_proposals", "num_objects"), [(5, 3), (4, 4), (3, 5), (4, 1)])
def test_assignment_is_the_cheapest_of_all(num_proposals, num_objects):
    for seed in range(5):
        torch.manual_seed(seed)
        proposals, boxes = random_boxes(num_proposals).float(), random_boxes(num_objects).float()
        proposals[:, 6], boxes[:, 6] = 0, 0
        near = min(num_proposals, num_objects)
        proposals[:near, :6] = boxes[:near, :6] + torch.randn(near, 6) * 0.05
        logits, labels = torch.randn(num_proposals, 3) * 2, torch.randint(0, 3, (num_objects,))
        cost = [
            [pair_cost(p, row, b, c) for b, c in zip(boxes.tolist(), labels.tolist(), strict=True)]
            for p, row in zip(proposals.tolist(), logits.tolist(), strict=True)
        ]
        pairings = [
            list(zip(rows, columns, strict=True))
            for rows in itertools.combinations(range(num_proposals), near)
            for columns in itertools.permutations(range(num_objects), near)
        ]
        best = min(pairings, key=lambda pairs: sum(cost[p][k] for p, k in pairs))
        match = HungarianAssigner(RANGE).assign(
            proposals[None], logits[None], truth_of({"boxes": boxes, "labels": labels})
        )
        found = list(zip(match.proposal_index.tolist(), match.object_index.tolist(), strict=True))
        assert sorted(found) == sorted(best)
        expected = [aligned_iou(proposals[p].tolist(), boxes[k].tolist()) for p, k in found]
        assert match.iou.tolist() == pytest.approx(expected, abs=1e-5)


def test_assignment_survives_a_diverged_prediction():
    boxes = random_boxes(2).float()
    proposals = boxes.clone().repeat(2, 1)
    proposals[:2] = NAN
    logits = torch.zeros(4, 3)
    logits[0] = torch.inf
    match = HungarianAssigner(RANGE).assign(proposals[None], logits[None], truth_of({"boxes": boxes, "labels": [0, 1]}))
    assert sorted(match.proposal_index.tolist()) == [2, 3]


def test_a_diverged_prediction_is_matched_last():
    """Also where every other pair costs something: far away and not of the class."""
    boxes = random_boxes(2).float()
    proposals = boxes.clone().repeat(2, 1)
    proposals[:2] = NAN
    proposals[2:, :2] += 30
    match = HungarianAssigner(RANGE).assign(
        proposals[None], torch.full((1, 4, 3), -4.0), truth_of({"boxes": boxes, "labels": [0, 1]})
    )
    assert sorted(match.proposal_index.tolist()) == [2, 3]


def mixed_batch() -> list[dict]:
    """Two objects, none, more objects than proposals, none that can be learned."""
    crowd = sample(random_boxes(9).tolist(), torch.randint(0, 3, (9,)).tolist())
    return [TWO_OBJECTS, NOTHING, crowd, sample([[99, 0, 0, 1, 1, 1, 0, 0, 0]], [1])]


def test_samples_of_a_batch_are_matched_apart():
    torch.manual_seed(0)
    samples, assigner = mixed_batch(), HungarianAssigner(RANGE)
    proposals, logits = random_boxes(4 * 6).float().view(4, 6, 9), torch.randn(4, 6, 3)
    found = assigner.assign(proposals, logits, truth_of(*samples))
    first, number = 0, 0
    for index, one in enumerate(samples):
        truth = truth_of(one)
        alone = assigner.assign(proposals[index : index + 1], logits[index : index + 1], truth)
        rows = slice(number, number + len(alone.iou))
        assert (found.sample_index[rows] == index).all()
        assert found.proposal_index[rows].tolist() == alone.proposal_index.tolist()
        assert (found.object_index[rows] - first).tolist() == alone.object_index.tolist()
        assert torch.equal(found.iou[rows], alone.iou)
        first, number = first + len(truth.labels), rows.stop
    assert number == len(found.iou) == 2 + 0 + 6 + 0


def test_heatmaps_of_a_batch_are_drawn_apart():
    samples = mixed_batch()
    form = dict(num_classes=3, min_overlap=0.1, min_radius=2)
    found = draw_heatmaps(truth_of(*samples), CODER, **form)
    assert found.shape == (4, 3, *CODER.grid_shape)
    for one, drawn in zip(samples, found, strict=True):
        assert torch.equal(drawn, draw_heatmaps(truth_of(one), CODER, **form)[0])
    assert not found[1].any() and not found[3].any()


def test_truth_names_who_asks_and_what_is_wrong():
    with pytest.raises(ValueError, match=r"^Some: samples must be 2, got 1$"):
        Truth.of([NOTHING], CODER, "cpu", batch_size=2, num_classes=3, op="Some")
    with pytest.raises(
        ValueError, match=r"^Some: a sample's boxes must be \(K, 9\) and labels \(K,\), got \(2, 9\) and"
    ):
        Truth.of([{**TWO_OBJECTS, "labels": [1]}], CODER, "cpu", batch_size=1, num_classes=3, op="Some")
    for label in (-1, 3):  # in a heatmap of the whole batch it would be a class of another sample
        wrong = {**TWO_OBJECTS, "labels": torch.tensor([0, label])}
        with pytest.raises(ValueError, match=rf"^Some: labels must be in \[0, 3\), got \[0, {label}\] in sample 1$"):
            Truth.of([NOTHING, wrong], CODER, "cpu", batch_size=2, num_classes=3, op="Some")


@pytest.mark.gpu
def test_a_match_waits_for_the_gpu_once():
    samples = mixed_batch()
    proposals, logits = random_boxes(4 * 6).float().view(4, 6, 9).cuda(), torch.randn(4, 6, 3, device="cuda")
    truth, assigner = truth_of(*samples, device="cuda"), HungarianAssigner(RANGE)
    expected = assigner.assign(proposals.cpu(), logits.cpu(), truth_of(*samples))
    assigner.assign(proposals, logits, truth)  # makes the constants
    with warnings.catch_warnings(record=True) as waits:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        found = assigner.assign(proposals, logits, truth)
        torch.cuda.set_sync_debug_mode("default")
    # The mode itself warns once in a process that it is a prototype.
    assert sum("called a synchronizing" in str(wait.message) for wait in waits) == 1
    assert [index.tolist() for index in found[:3]] == [index.tolist() for index in expected[:3]]
