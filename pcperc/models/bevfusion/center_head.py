# SPDX-License-Identifier: Apache-2.0
"""The center head: a heatmap of object centres, and a box regressed in every cell, by groups of classes.

Source: Yin, Zhou and Kraehenbuehl, Center-based 3D object detection and tracking (CenterPoint), CVPR 2021; as in
BEVFusion's released configuration of the camera-only detector (Liu et al., ICRA 2023).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pcperc import ops
from pcperc.geometry import Detections
from pcperc.models.bevfusion.box_coder import BoxCoder
from pcperc.models.bevfusion.center_loss import CenterLoss, CenterOutput
from pcperc.models.blocks import ConvNormReLU
from pcperc.models.constants import constant
from pcperc.registry import MODELS

# What each branch of a task gives, in the order of BoxCoder's code.
BOX_BRANCHES = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}
# Log-odds of 0.1: most cells are background, and a short training need not first learn that.
PRIOR_LOGIT = -2.19


@MODELS.register_module()
@dataclass(frozen=True)
class CenterTask:
    """Classes of like size that share their branches and suppress each other.

    Attributes:
        classes: indices of the classes.
        nms: "circle" drops a box whose centre is closer than ``threshold`` metres to a better one's, "rotated" one
            that overlaps a better one from above by an intersection over union greater than ``threshold``.
        threshold: see ``nms``.
        scales: by which length and width are multiplied while boxes are compared, for each class; small boxes of one
            object may else not touch. Of "rotated" only.
    Raises:
        ValueError: no class, another ``nms``, a threshold out of range, or not one positive scale for each class.
    """

    classes: tuple[int, ...]
    nms: str = "rotated"
    threshold: float = 0.2
    scales: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.classes) == 0 or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"CenterTask: classes must be one or more different ones, got {tuple(self.classes)}")
        if self.nms not in ("circle", "rotated"):
            raise ValueError(f"CenterTask: nms must be 'circle' or 'rotated', got {self.nms!r}")
        if not 0 <= self.threshold <= (1 if self.nms == "rotated" else float("inf")):
            raise ValueError(f"CenterTask: threshold must be >= 0, of 'rotated' <= 1, got {self.threshold}")
        if self.scales is not None and (
            self.nms == "circle" or len(self.scales) != len(self.classes) or min(self.scales) <= 0
        ):
            raise ValueError(f"CenterTask: scales must be > 0, one a class, of 'rotated' only, got {self.scales}")

    def suppress(self, boxes: Tensor, scores: Tensor, members: Tensor) -> Tensor:
        """Return the indices of the boxes that stay, best first; equal scores rank by index.

        Args:
            boxes: (K, 9).
            scores: (K,).
            members: (K,) int64, the place of each box's class in ``classes``.
        """
        if self.nms == "circle":
            return ops.circle_nms(boxes[:, :2].contiguous(), scores, min_distance=self.threshold)
        if self.scales is not None:
            boxes = boxes.clone()
            boxes[:, 3:5] *= constant(self.scales, boxes)[members][:, None]
        return ops.nms_bev(boxes, scores, iou_threshold=self.threshold)


@MODELS.register_module()
class CenterHead(nn.Module):
    """Detect objects on a bird's-eye-view map (B, in_channels, X, Y). 1.52M parameters with nuScenes' six tasks.

    Args:
        in_channels: channels of the map.
        tasks: groups of classes; together the classes 0 to C - 1, each once.
        box_coder: codes boxes; its grid is the map's.
        criterion: compares with the truth; needed for ``loss`` only.
        shared_channels: width of the convolution that all tasks share.
        branch_channels: hidden width of the branches of a task.
        max_candidates: the best cells of each task that are looked at.
        max_per_task: boxes of each task that stay after suppression.
        score_threshold: predictions must score more.
        post_range: (x0, y0, z0, x1, y1, z1) metres, where centres of predictions must lie.
    Raises:
        ValueError: classes that are missing or in two tasks.
    """

    def __init__(
        self,
        in_channels: int,
        tasks: Sequence[CenterTask],
        box_coder: BoxCoder,
        criterion: CenterLoss | None = None,
        *,
        shared_channels: int = 64,
        branch_channels: int = 64,
        max_candidates: int = 500,
        max_per_task: int = 83,
        score_threshold: float = 0.1,
        post_range: Sequence[float] = (-61.2, -61.2, -10.0, 61.2, 61.2, 10.0),
    ):
        super().__init__()
        order = [label for task in tasks for label in task.classes]
        if sorted(order) != list(range(len(order))) or not order:
            raise ValueError(f"CenterHead: tasks must have the classes 0, 1, ... each once, got {order}")
        self.tasks, self.box_coder, self.criterion = tuple(tasks), box_coder, criterion
        self.task_of_class = [t for _, t in sorted((c, t) for t, task in enumerate(tasks) for c in task.classes)]
        self.max_candidates, self.max_per_task = max_candidates, max_per_task
        self.score_threshold, self.post_range = score_threshold, tuple(post_range)

        self.shared_conv = ConvNormReLU(in_channels, shared_channels, 3)
        self.task_heads = nn.ModuleList(
            _branches(shared_channels, branch_channels, len(task.classes)) for task in self.tasks
        )
        channel_of_class = torch.tensor([order.index(label) for label in range(len(order))])
        self.register_buffer("channel_of_class", channel_of_class, persistent=False)

    def forward(self, bev: Tensor) -> CenterOutput:
        """Map (B, in_channels, X, Y) to heatmap and codes of every cell.

        Raises:
            ValueError: the map is not the box coder's grid.
        """
        if tuple(bev.shape[2:]) != self.box_coder.grid_shape:
            raise ValueError(f"CenterHead: bev must be (B, C, *{self.box_coder.grid_shape}), got {tuple(bev.shape)}")
        shared = self.shared_conv(bev)
        heatmap = torch.cat([branches["heatmap"](shared) for branches in self.task_heads], 1)
        codes = [torch.cat([branches[name](shared) for name in BOX_BRANCHES], 1) for branches in self.task_heads]
        return CenterOutput(heatmap[:, self.channel_of_class], torch.stack(codes, 1).float())

    def loss(self, output: CenterOutput, samples: list[dict]) -> dict[str, Tensor]:
        """Compare with the true ``boxes`` (K, 9) and ``labels`` (K,) of each sample; see CenterLoss."""
        if self.criterion is None:
            raise ValueError("CenterHead: criterion must be given to compute a loss, got None")
        return self.criterion(output, samples, task_of_class=self.task_of_class, box_coder=self.box_coder)

    @torch.no_grad()
    def predict(self, output: CenterOutput) -> list[Detections]:
        """Turn heatmap and codes into detections, highest score first, in the frame of the map.

        Of each task the best cells are taken, whether or not they are maxima; suppression does the rest, as published.
        Equal scores rank by task, class and cell, so that results repeat on every device.
        """
        by_task = [self._candidates(output, index) for index in range(len(self.tasks))]
        results = []
        for b in range(len(output.heatmap)):
            parts = []
            for task, (boxes, scores, members) in zip(self.tasks, by_task, strict=True):
                keep = self._valid(boxes[b], scores[b])
                found, score, member = boxes[b][keep], scores[b][keep], members[b][keep]
                kept = task.suppress(found, score, member)[: self.max_per_task]
                labels = constant(task.classes, member)[member[kept]]
                parts.append((found[kept], score[kept], labels))
            boxes, scores, labels = (torch.cat(part) for part in zip(*parts, strict=True))
            results.append(Detections(boxes, scores, labels).filter(scores.argsort(descending=True, stable=True)))
        return results

    def _candidates(self, output: CenterOutput, task: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes (B, K, 9), scores (B, K) and classes within the task (B, K) of its best cells."""
        scores = output.heatmap[:, list(self.tasks[task].classes)].float().sigmoid().flatten(1)
        # A stable sort and not topk, whose choice among equal scores differs between devices.
        scores, index = (part[:, : self.max_candidates] for part in scores.sort(descending=True, stable=True))
        rows, columns = self.box_coder.grid_shape
        members, cell = index // (rows * columns), index % (rows * columns)
        codes = output.codes[:, task].flatten(2).transpose(1, 2).float()  # (B, X * Y, 10)
        codes = codes.gather(1, cell[..., None].expand(-1, -1, codes.shape[2]))
        corner = torch.stack([cell // columns, cell % columns], -1)
        return self.box_coder.decode(torch.cat([codes[..., :2] + corner, codes[..., 2:]], -1)), scores, members

    def _valid(self, boxes: Tensor, scores: Tensor) -> Tensor:
        """Return (K,) bool: good enough and inside ``post_range``."""
        low, high = constant(self.post_range[:3], boxes), constant(self.post_range[3:], boxes)
        return (scores > self.score_threshold) & ((boxes[:, :3] >= low) & (boxes[:, :3] <= high)).all(1)


def _branches(channels: int, mid_channels: int, num_classes: int) -> nn.ModuleDict:
    """Two 3 x 3 convolutions for each part of a box and for the heatmap of one task."""
    widths = BOX_BRANCHES | {"heatmap": num_classes}
    branches = {
        name: nn.Sequential(ConvNormReLU(channels, mid_channels, 3), nn.Conv2d(mid_channels, width, 3, padding=1))
        for name, width in widths.items()
    }
    nn.init.constant_(branches["heatmap"][-1].bias, PRIOR_LOGIT)
    return nn.ModuleDict(branches)
