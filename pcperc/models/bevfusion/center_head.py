# SPDX-License-Identifier: Apache-2.0
"""The center head: a heatmap of object centres, and a box regressed in every cell, by groups of classes.

Source: Yin, Zhou and Kraehenbuehl, Center-based 3D object detection and tracking (CenterPoint), CVPR 2021; as in
BEVFusion's released configuration of the camera-only detector (Liu et al., ICRA 2023).
"""

import math
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

    def suppress(self, boxes: Tensor) -> Tensor:
        """Return (K,) bool, which of the boxes (K, 9), best first, stay; ``scales`` are in them, if there are any.

        Boxes of NaN stay and make none go.
        """
        if self.nms == "circle":
            return ops.circle_nms_sorted(boxes[:, :2], min_distance=self.threshold)
        return ops.nms_bev_sorted(boxes, iou_threshold=self.threshold)


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
        widest = max(len(task.classes) for task in self.tasks)
        classes = torch.tensor([[*task.classes, *[-1] * (widest - len(task.classes))] for task in self.tasks])
        self.register_buffer("classes_of_task", classes, persistent=False)  # (T, widest), -1 for none
        scales = [scale for task in self.tasks for scale in task.scales or [1.0] * len(task.classes)]
        self.scale_of_class = tuple(scales[order.index(label)] for label in range(len(order)))

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
        Equal scores rank by task, class and cell, so that results repeat on every device; cells whose score is NaN are
        passed over. All tasks are decoded together, in fixed shapes: the host waits for a GPU once a sample, at last.
        """
        return [self._suppressed(*sample) for sample in zip(*self._candidates(output), strict=True)]

    def _candidates(self, output: CenterOutput) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes (B, T, K, 9), scores (B, T, K) and labels (B, T, K) of the best cells of each of T tasks.

        Where fewer than K score enough, the rest has scores of -inf and any boxes and labels.
        """
        scores = output.heatmap[:, self.classes_of_task].float().sigmoid()  # (B, T, widest, X, Y)
        enough = (scores > self.score_threshold) & (self.classes_of_task >= 0)[..., None, None]
        scores = scores.where(enough, -math.inf).flatten(2)
        # The bits of scores of 0 and more, as integers, rank as the scores do. With the place behind them no keys are
        # equal: among equal ones, what topk takes depends on the device. A stable sort takes a CPU five times as long.
        count = scores.shape[2]
        keys = scores.view(torch.int32).long() * count - torch.arange(count, device=scores.device)
        index = keys.topk(min(self.max_candidates, count)).indices

        rows, columns = self.box_coder.grid_shape
        members, cells = index // (rows * columns), index % (rows * columns)
        codes = output.codes.flatten(3)  # (B, T, 10, X * Y)
        codes = codes.gather(3, cells[:, :, None].expand(-1, -1, codes.shape[2], -1)).transpose(2, 3).float()
        corner = torch.stack([cells // columns, cells % columns], -1)
        boxes = self.box_coder.decode(torch.cat([codes[..., :2] + corner, codes[..., 2:]], -1))
        labels = self.classes_of_task.expand(len(index), -1, -1).gather(2, members)
        return boxes, scores.gather(2, index), labels

    def _suppressed(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Detections:
        """Return the candidates (T, K) of one sample that stay, highest score first."""
        low, high = constant(self.post_range[:3], boxes), constant(self.post_range[3:], boxes)
        valid = (scores > self.score_threshold) & ((boxes[..., :3] >= low) & (boxes[..., :3] <= high)).all(-1)
        scaled = boxes[..., 3:5] * constant(self.scale_of_class, boxes)[labels][..., None]
        compared = torch.cat([boxes[..., :3], scaled, boxes[..., 5:]], -1).where(valid[..., None], math.nan)
        keep = torch.stack([task.suppress(own) for task, own in zip(self.tasks, compared, strict=True)]) & valid
        keep &= keep.cumsum(1) <= self.max_per_task
        order = scores.flatten().argsort(descending=True, stable=True)
        order = order[keep.flatten()[order]]
        return Detections(boxes.flatten(0, 1), scores.flatten(), labels.flatten()).filter(order)


def _branches(channels: int, mid_channels: int, num_classes: int) -> nn.ModuleDict:
    """Two 3 x 3 convolutions for each part of a box and for the heatmap of one task."""
    widths = BOX_BRANCHES | {"heatmap": num_classes}
    branches = {
        name: nn.Sequential(ConvNormReLU(channels, mid_channels, 3), nn.Conv2d(mid_channels, width, 3, padding=1))
        for name, width in widths.items()
    }
    nn.init.constant_(branches["heatmap"][-1].bias, PRIOR_LOGIT)
    return nn.ModuleDict(branches)
