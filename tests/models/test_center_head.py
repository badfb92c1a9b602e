# SPDX-License-Identifier: Apache-2.0
"""The center head: targets, losses, boxes and suppression against float64 loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc import ops
from pcperc.models.bevfusion.box_coder import BoxCoder
from pcperc.models.bevfusion.center_head import CenterHead, CenterTask
from pcperc.models.bevfusion.center_loss import CenterLoss, CenterOutput
from tests import oracles, oracles_center_head

RANGE = (-8.0, -6.0, -5.0, 8.0, 6.0, 3.0)
CODER = BoxCoder(RANGE, (1.0, 0.75))  # 16 x 16 cells
GRID = ((-8.0, -6.0), (1.0, 0.75), (16, 16))
TASKS = ((0,), (3, 1), (2,))  # not in the order of the classes
NAN = float("nan")


def make_head(**changes) -> CenterHead:
    tasks = [
        CenterTask((0,), nms="circle", threshold=2.0),
        CenterTask((3, 1), threshold=0.2),
        CenterTask((2,), threshold=0.1, scales=(3.0,)),
    ]
    arguments = dict(in_channels=6, tasks=tasks, box_coder=CODER, criterion=CenterLoss()) | changes
    return CenterHead(**arguments, shared_channels=8, branch_channels=4)


def random_truth(count: int, seed: int) -> tuple[list, list]:
    rng = np.random.default_rng(seed)
    boxes = np.c_[
        rng.uniform(-8, 8, count),
        rng.uniform(-6, 6, count),
        rng.uniform(-3, 1, count),
        rng.uniform(0.3, 9, (count, 3)),
        rng.uniform(-4, 4, count),
        rng.normal(size=(count, 2)),
    ]
    boxes[::3, 7:] = NAN
    boxes[: count // 4, 0] += 16  # outside of the grid
    return boxes.tolist(), rng.integers(0, 4, count).tolist()


def as_samples(truth) -> list[dict]:
    return [
        {"boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 9), "labels": torch.tensor(labels).long()}
        for boxes, labels in truth
    ]


def random_output(batch: int = 2, dtype=torch.float64) -> CenterOutput:
    return CenterOutput(torch.randn(batch, 4, 16, 16, dtype=dtype) * 2, torch.randn(batch, 3, 10, 16, 16, dtype=dtype))


def test_parameters_at_the_published_size():
    """64 shared channels; five box branches and a heatmap for each of six tasks, two 3 x 3 convolutions each."""
    tasks = [CenterTask(classes) for classes in ((0,), (1, 2), (3, 4), (5,), (6, 7), (8, 9))]
    head = CenterHead(256, tasks, BoxCoder((-51.2, -51.2, -5, 51.2, 51.2, 3), (0.8, 0.8)))
    shared, hidden = 256 * 64 * 9 + 128, 64 * 64 * 9 + 128
    box = sum(64 * 9 * width + width for width in (2, 1, 3, 2, 2))
    expected = shared + 6 * (6 * hidden + box) + (64 * 9 + 1) * 10
    assert sum(p.numel() for p in head.parameters()) == expected == 1_519_686


@pytest.mark.parametrize("counts", [(12, 5), (0, 7), (0, 0)])
def test_losses_equal_the_loops(counts, device):
    truth = [random_truth(count, seed) for seed, count in enumerate(counts)]
    if counts[0]:
        truth[0][0][5][:2] = truth[0][0][6][:2]  # two objects in one cell, of one task
        truth[0][1][5:7] = [3, 1]
    head, output = make_head(), random_output(dtype=torch.float32)
    expected = oracles_center_head.losses(output.heatmap.numpy(), output.codes.numpy(), truth, TASKS, GRID)
    moved = CenterOutput(output.heatmap.to(device), output.codes.to(device))
    found = head.loss(moved, as_samples(truth))
    assert set(found) == {"loss_heatmap", "loss_box"}
    assert found["loss_heatmap"].item() == pytest.approx(expected[0], rel=1e-5)
    assert found["loss_box"].item() == pytest.approx(0.25 * expected[1], rel=1e-5)


def test_gradients_of_the_losses():
    coder = BoxCoder((0.0, 0.0, -5.0, 4.0, 3.0, 3.0), (1.0, 1.0))
    boxes = [
        [0.5, 0.7, 0, 2, 1, 1.5, 0.3, NAN, NAN],
        [0.2, 0.1, 1, 4, 2, 1.5, 3, 1, 2],
        [3.5, 2.1, 0, 1, 1, 1, 0, 0, 1],
    ]
    truth = as_samples([(boxes, [0, 1, 2]), ([], [])])
    loss = CenterLoss()

    def losses(heatmap, codes):
        output = CenterOutput(heatmap, codes)
        return tuple(loss(output, truth, task_of_class=[0, 0, 1], box_coder=coder).values())

    heatmap = torch.randn(2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    codes = torch.randn(2, 2, 10, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(losses, (heatmap, codes))


def test_a_loss_at_every_object_and_nowhere_else():
    truth = [([[0.3, 0.2, 0, 4, 2, 1.5, 0.1, 1, 2], [-3.5, 2.2, 0, 1, 1, 1, 0, NAN, NAN]], [1, 2])]
    output = CenterOutput(torch.zeros(1, 4, 16, 16), torch.zeros(1, 3, 10, 16, 16, requires_grad=True))
    make_head().loss(output, as_samples(truth))["loss_box"].backward()
    reached = output.codes.grad[0].abs().sum(1).nonzero().tolist()
    assert reached == [[1, 8, 8], [2, 4, 10]]
    assert (output.codes.grad[0, 2, 8:] == 0).all(), "an unknown velocity has no gradient"


def test_coded_truth_decodes_to_itself():
    """A head that says exactly what it should gives back the boxes."""
    truth = random_truth(9, 5)
    boxes = torch.tensor([box for box in truth[0] if abs(box[0]) < 8], dtype=torch.float32).nan_to_num(0.5)
    boxes[:, 6] = (boxes[:, 6] + math.pi) % (2 * math.pi) - math.pi
    boxes[:, :2] = torch.tensor([[-6.1 + 1.7 * i, -5.2 + 1.5 * i] for i in range(len(boxes))])
    heatmap, codes = torch.full((1, 4, 16, 16), -9.0), torch.zeros(1, 3, 10, 16, 16)
    for box in boxes:
        cell, place = oracles_center_head.cell_of(box.tolist(), GRID)
        heatmap[0, 0, cell[0], cell[1]] = 3.0
        codes[0, 0, :, cell[0], cell[1]] = torch.tensor(oracles_center_head.code(box.tolist(), place))
    head = make_head(tasks=[CenterTask((0,), nms="circle", threshold=0.1), CenterTask((1, 2, 3))])
    (found,) = head.predict(CenterOutput(heatmap, torch.cat([codes[:, :1], codes[:, 1:2]], 1)))
    order = boxes[:, 0].argsort()
    assert found.labels.tolist() == [0] * len(boxes)
    torch.testing.assert_close(found.boxes[found.boxes[:, 0].argsort()], boxes[order], rtol=1e-5, atol=1e-5)


def test_predictions_equal_the_loops(device):
    """Candidates, thresholds, suppression of each task, and the final order."""
    post_range = (-7.0, -9.0, -2.0, 9.0, 5.5, 1.0)
    head = make_head(max_candidates=60, max_per_task=20, post_range=post_range).to(device)
    output = random_output(dtype=torch.float32)
    output.heatmap.mul_(4).round_().div_(4)  # many ties
    output.codes[:, :, 3:6] *= 0.4
    found = head.predict(CenterOutput(output.heatmap.to(device), output.codes.to(device)))
    for b, detections in enumerate(found):
        rows = []
        options = dict(max_candidates=60, score_threshold=0.1, post_range=post_range)
        by_task = oracles_center_head.decode(
            output.heatmap[b].double().numpy(), output.codes[b].double().numpy(), TASKS, GRID, **options
        )
        for task, candidates in zip(head.tasks, by_task, strict=True):
            boxes = np.array([row[0] for row in candidates])
            scores = [row[1] for row in candidates]
            if task.nms == "circle":
                kept = oracles_center_head.circle_nms(boxes[:, :2].tolist(), scores, task.threshold)
            else:
                boxes[:, 3:5] *= (task.scales or (1.0,))[0]
                kept = oracles.greedy_nms(oracles.box_iou(boxes, boxes, use_height=False), scores, task.threshold)
            rows += [candidates[index] for index in kept[:20]]
        rows.sort(key=lambda row: -row[1])
        assert len(rows) > 15
        assert detections.labels.tolist() == [row[2] for row in rows]
        np.testing.assert_allclose(detections.scores.cpu().numpy(), [row[1] for row in rows], rtol=1e-5)
        np.testing.assert_allclose(detections.boxes.cpu().numpy(), [row[0] for row in rows], rtol=1e-4, atol=1e-4)


def test_a_score_must_be_above_the_threshold():
    heatmap = torch.full((1, 4, 16, 16), -9.0)
    heatmap[0, 0, 3, 4], heatmap[0, 0, 9, 4], heatmap[0, 0, 14, 4] = 0.0, 1e-3, -1e-3
    (found,) = make_head(score_threshold=0.5).predict(CenterOutput(heatmap, torch.zeros(1, 3, 10, 16, 16)))
    assert found.boxes[:, 0].tolist() == [1.0]


places = st.integers(-6, 6).map(lambda v: v / 2)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(places, places, st.integers(0, 3)), max_size=40), st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.5]))
def test_circle_suppression_equals_the_loop(rows, distance):
    """On half metres, where many distances are exactly the limit and many scores are equal."""
    centers = torch.tensor([row[:2] for row in rows], dtype=torch.float64).view(-1, 2)
    scores = torch.tensor([row[2] / 4 for row in rows], dtype=torch.float64)
    kept = ops.circle_nms(centers, scores, min_distance=distance).tolist()
    assert kept == oracles_center_head.circle_nms([row[:2] for row in rows], [row[2] for row in rows], distance)


def test_nothing_found_and_empty_batches():
    output = CenterOutput(torch.full((2, 4, 16, 16), -9.0), torch.zeros(2, 3, 10, 16, 16))
    assert [len(found) for found in make_head().predict(output)] == [0, 0]


def test_every_parameter_learns():
    head = make_head(tasks=[CenterTask((0,)), CenterTask((1, 2, 3))])
    losses = head.loss(head(torch.randn(2, 6, 16, 16)), as_samples([random_truth(30, 1), random_truth(30, 2)]))
    sum(losses.values()).backward()
    without = [name for name, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


def test_heatmap_channels_are_classes():
    """Tasks in another order than the classes: channel c is class c."""
    head = make_head()
    with torch.no_grad():
        for branches, task in zip(head.task_heads, TASKS, strict=True):
            branches["heatmap"][-1].weight.zero_()
            branches["heatmap"][-1].bias.copy_(torch.tensor([float(label) for label in task]))
    heatmap = head(torch.randn(1, 6, 16, 16)).heatmap
    assert heatmap.mean((0, 2, 3)).tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CenterTask(()), "classes must be one or more different ones"),
        (lambda: CenterTask((1, 1)), "classes must be one or more different ones"),
        (lambda: CenterTask((0,), nms="soft"), "nms must be 'circle' or 'rotated', got 'soft'"),
        (lambda: CenterTask((0,), threshold=2.0), "threshold must be"),
        (lambda: CenterTask((0, 1), scales=(1.0,)), "scales must be"),
        (lambda: CenterTask((0,), nms="circle", scales=(1.0,)), "scales must be"),
        (lambda: CenterLoss(code_weights=(1.0,) * 9), "code_weights must be 10, got 9"),
        (lambda: make_head(tasks=[CenterTask((0,)), CenterTask((2,))]), r"each once, got \[0, 2\]"),
        (lambda: make_head()(torch.zeros(1, 6, 16, 15)), r"bev must be \(B, C, \*\(16, 16\)\), got"),
        (lambda: make_head(criterion=None).loss(random_output(), []), "criterion must be given"),
        (lambda: make_head().loss(random_output(), [{}]), "samples must be 2, got 1"),
        (
            lambda: make_head().loss(
                random_output(1), [{"boxes": torch.zeros(2, 7), "labels": torch.zeros(2, dtype=torch.int64)}]
            ),
            r"CenterLoss: a sample's boxes must be \(K, 9\)",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
