# SPDX-License-Identifier: Apache-2.0
"""All tasks of a center head decoded together give the bits of one task, one sample after the other."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pcperc import ops
from pcperc.geometry import Detections
from pcperc.models.bevfusion.box_coder import BoxCoder
from pcperc.models.bevfusion.center_head import CenterHead, CenterTask
from pcperc.models.bevfusion.center_loss import CenterOutput

CODER = BoxCoder((-8.0, -6.0, -5.0, 8.0, 6.0, 3.0), (1.0, 0.75))  # 16 x 16 cells
CELLS = 16 * 16
TASKS = (
    CenterTask((4,), nms="circle", threshold=2.0),
    CenterTask((3, 1), scales=(2.5, 4.0)),
    CenterTask((0, 5, 2), threshold=0.1),
)


def make_head(**changes) -> CenterHead:
    options = dict(tasks=TASKS, post_range=(-7.0, -9.0, -2.0, 9.0, 5.5, 1.0)) | changes
    return CenterHead(4, box_coder=CODER, shared_channels=8, branch_channels=4, **options).eval()


def random_output(batch: int = 2, *, step: float = 0.0, device=None, dtype=torch.float32) -> CenterOutput:
    """Logits about 0, in steps so that many are equal."""
    heatmap, codes = torch.randn(batch, 6, 16, 16) * 2, torch.randn(batch, 3, 10, 16, 16)
    if step:
        heatmap = (heatmap / step).round() * step
    return CenterOutput(heatmap.to(device, dtype), codes.to(device))


def one_after_the_other(head: CenterHead, output: CenterOutput) -> list[Detections]:
    """The formula of the paper's program, with a stable sort of all cells; public operators rank once more."""
    low, high = (torch.tensor(part, device=output.codes.device) for part in (head.post_range[:3], head.post_range[3:]))
    results = []
    for heatmap, codes in zip(output.heatmap, output.codes, strict=True):
        parts = []
        for task, code in zip(head.tasks, codes, strict=True):
            ranked, index = heatmap[list(task.classes)].float().sigmoid().flatten().sort(descending=True, stable=True)
            score, index = ranked[: head.max_candidates], index[: head.max_candidates]
            member, cell = index // CELLS, index % CELLS
            code = code.flatten(1).T[cell]
            code = torch.cat([code[:, :2] + torch.stack([cell // 16, cell % 16], 1), code[:, 2:]], 1)
            box = head.box_coder.decode(code)
            valid = (score > head.score_threshold) & ((box[:, :3] >= low) & (box[:, :3] <= high)).all(1)
            box, score, member = box[valid], score[valid], member[valid]
            if task.nms == "circle":
                kept = ops.circle_nms(box[:, :2], score, min_distance=task.threshold)
            else:
                scaled = box.clone()
                scaled[:, 3:5] *= scaled.new_tensor(task.scales or [1.0] * len(task.classes))[member][:, None]
                kept = ops.nms_bev(scaled, score, iou_threshold=task.threshold)
            kept = kept[: head.max_per_task]
            parts.append((box[kept], score[kept], member.new_tensor(task.classes)[member[kept]]))
        found = Detections(*(torch.cat(part) for part in zip(*parts, strict=True)))
        results.append(found.filter(found.scores.argsort(descending=True, stable=True)))
    return results


def assert_same(head: CenterHead, output: CenterOutput) -> list[Detections]:
    found, wanted = head.to(output.codes.device).predict(output), one_after_the_other(head, output)
    assert len(found) == len(wanted) == len(output.codes)
    for ours, theirs in zip(found, wanted, strict=True):
        for part in ("boxes", "scores", "labels"):
            assert torch.equal(getattr(ours, part), getattr(theirs, part)), part
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("step", [0.0, 0.25, 3.0])
@pytest.mark.parametrize("max_candidates", [1, 40, 300, 5000], ids="{}candidates".format)
def test_same_bits(max_candidates, step, dtype, device):
    """300 are more than the cells of the task of one class, 5000 more than those of all of a task."""
    output = random_output(step=step, device=device, dtype=dtype)
    found = assert_same(make_head(max_candidates=max_candidates), output)
    assert max_candidates == 1 or min(len(each) for each in found) > 20


@pytest.mark.parametrize("changes", [{"max_per_task": 4}, {"score_threshold": 0.9}, {"score_threshold": -2.0}], ids=str)
def test_same_bits_with_other_limits(changes, device):
    found = assert_same(make_head(max_candidates=400, **changes), random_output(step=0.5, device=device))
    assert min(len(each) for each in found) > 0


def test_equal_scores_everywhere(device):
    output = random_output(device=device)
    output.heatmap.fill_(1.0)
    assert_same(make_head(max_candidates=300), output)


def test_tasks_and_samples_without_anything(device):
    output = random_output(3, device=device)
    output.heatmap[0, [3, 1]] = -9.0  # no class of the second task
    output.heatmap[1] = -9.0  # none at all
    output.codes[2, 0, 2] = 7.0  # all of the first task above post_range
    first, second, third = assert_same(make_head(), output)
    assert len(second) == 0 and set(first.labels.tolist()) == {0, 2, 4, 5} and 4 not in third.labels
    assert make_head().to(device).predict(random_output(0, device=device)) == []


def test_a_cell_without_a_number_takes_no_place(device):
    head, output = make_head(max_candidates=1).to(device), random_output(1, device=device)
    output.codes.zero_()
    (wanted,) = head.predict(output)
    for values in (float("nan"), -float("nan")):
        output.heatmap[0, 2, 3, :4] = output.heatmap[0, 4, 5, 5] = values
    found = head.predict(output)[0]
    assert len(wanted) == 3 and torch.equal(found.boxes, wanted.boxes) and torch.equal(found.scores, wanted.scores)


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for a GPU: numbers of values, masks as indices, copies from the host."""

    NAMES = ("nonzero", "_local_scalar_dense", "masked_select", "lift_fresh", "_unique2")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masks = name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1])
        if name in self.NAMES or masks:
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


def test_the_host_waits_once_a_sample():
    head, output = make_head(), random_output(2)
    wanted = head.predict(output)  # also makes the constants
    with Waits() as waits:
        found = head.predict(output)
    assert waits.seen == ["index", "index"]
    assert [each.scores.tolist() for each in found] == [each.scores.tolist() for each in wanted]


def test_scales_are_of_the_comparison_alone():
    boxes = torch.tensor([[0.0, 0, 0, 1, 1, 1, 0, 0, 0], [1.2, 0, 0, 1, 1, 1, 0, 0, 0]])
    heatmap, codes = torch.full((1, 2, 16, 16), -9.0), torch.zeros(1, 1, 10, 16, 16)
    for label, (code, score) in enumerate(zip(CODER.encode(boxes), (0.5, 0.9), strict=True)):
        x, y = code[:2].long()
        code[:2] -= code[:2].floor()
        codes[0, 0, :, x, y], heatmap[0, label, x, y] = code, torch.tensor(score).logit()
    for scales, threshold, kept in [
        (None, 0.2, [1, 0]),
        ((3.0, 3.0), 0.2, [1]),
        ((1.0, 1.2), 0.2, [1, 0]),
        ((1.0, 3.0), 0.05, [1]),  # each class its own
    ]:
        (found,) = make_head(tasks=[CenterTask((0, 1), threshold=threshold, scales=scales)]).predict(
            CenterOutput(heatmap, codes)
        )
        assert found.labels.tolist() == kept
        torch.testing.assert_close(found.boxes, boxes[kept])


class Program(torch.nn.Module):
    def __init__(self, head: CenterHead):
        super().__init__()
        self.head = head

    def forward(self, bev):
        (found,) = self.head.predict(self.head(bev))
        return found.boxes, found.scores, found.labels


@torch.no_grad()
def test_an_exported_head_gives_the_same():
    program = Program(make_head(score_threshold=0.0))
    exported = torch.export.export(program, (torch.randn(1, 4, 16, 16),)).module()
    for bev in (torch.randn(1, 4, 16, 16), torch.randn(1, 4, 16, 16) * 5):
        found, wanted = exported(bev), program(bev)
        assert len(wanted[1]) > 20
        torch.testing.assert_close(found, wanted)
