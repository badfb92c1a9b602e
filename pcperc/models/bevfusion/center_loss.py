# SPDX-License-Identifier: Apache-2.0
"""What the center head should say, and how far it is from that."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcperc.models.bevfusion.box_coder import BoxCoder
from pcperc.models.bevfusion.target_assigner import draw_heatmaps
from pcperc.models.bevfusion.truth import Truth
from pcperc.models.constants import constant
from pcperc.models.losses import gaussian_focal_loss, mean_over_processes, weighted_l1_loss
from pcperc.registry import MODELS


@dataclass(frozen=True)
class CenterOutput:
    """What the head says about a batch of B samples, in every cell of the grid.

    Attributes:
        heatmap: (B, classes, X, Y) logits; channel c is class c.
        codes: (B, tasks, 10, X, Y) float32, see BoxCoder, but x and y count from the cell's own lower corner.
    """

    heatmap: Tensor
    codes: Tensor


@MODELS.register_module()
class CenterLoss:
    """Heatmap and box losses of the center head, each task's divided by its own count of peaks and of objects.

    Everything is computed in float32 or wider, whatever autocast says. Counts are averaged over the processes: two
    processes then learn what one would at twice the batch. (As published, each process divides by its own.)

    Args:
        heatmap_weight, box_weight: weights of the two losses.
        code_weights: ten weights inside the box loss, see BoxCoder.
        min_overlap, min_radius: of the heatmap's Gaussians (see ``gaussian_radius``), overlap and cells.
    Raises:
        ValueError: not ten code_weights.
    Source: Yin, Zhou and Kraehenbuehl, CenterPoint, CVPR 2021, section 4; released configuration of BEVFusion.
    """

    def __init__(
        self,
        *,
        heatmap_weight: float = 1.0,
        box_weight: float = 0.25,
        code_weights: Sequence[float] = (1.0,) * 8 + (0.2,) * 2,
        min_overlap: float = 0.1,
        min_radius: int = 2,
    ):
        if len(code_weights) != BoxCoder.code_size:
            raise ValueError(f"CenterLoss: code_weights must be {BoxCoder.code_size}, got {len(code_weights)}")
        self.heatmap_weight, self.box_weight, self.code_weights = heatmap_weight, box_weight, tuple(code_weights)
        self.min_overlap, self.min_radius = min_overlap, min_radius

    def __call__(
        self, output: CenterOutput, samples: list[dict], *, task_of_class: Sequence[int], box_coder: BoxCoder
    ) -> dict[str, Tensor]:
        """Compare with the true ``boxes`` (K, 9) and ``labels`` (K,) of each sample.

        Boxes of no positive size, not finite or outside the grid are left out; NaN velocities carry no loss. Of two
        objects of one task in one cell both are learned.

        Args:
            task_of_class: the task of each class.
        Returns:
            ``loss_heatmap`` and ``loss_box``, sums over the tasks.
        Raises:
            ValueError: as `Truth.of`.
        """
        batch_size, device = len(output.heatmap), output.heatmap.device
        form = dict(batch_size=batch_size, num_classes=output.heatmap.shape[1], op="CenterLoss")
        truth = Truth.of(samples, box_coder, device, **form)
        with torch.autocast(device.type, enabled=False):
            tasks = constant(task_of_class, truth.labels)
            return {
                "loss_heatmap": self.heatmap_weight * self._heatmap_loss(output.heatmap, truth, tasks, box_coder),
                "loss_box": self.box_weight * self._box_loss(output.codes, truth, tasks, box_coder),
            }

    def _heatmap_loss(self, heatmap: Tensor, truth: Truth, tasks: Tensor, box_coder: BoxCoder) -> Tensor:
        form = dict(num_classes=heatmap.shape[1], min_overlap=self.min_overlap, min_radius=self.min_radius)
        target = draw_heatmaps(truth, box_coder, **form)
        peaks = _count_by_task(tasks, (target == 1).sum((0, 2, 3)), len(tasks))
        by_class = zip(heatmap.unbind(1), target.unbind(1), peaks[tasks], strict=True)
        return sum(gaussian_focal_loss(logits, wanted, avg_factor=count) for logits, wanted, count in by_class)

    def _box_loss(self, codes: Tensor, truth: Truth, tasks: Tensor, box_coder: BoxCoder) -> Tensor:
        """Compare the codes of the cells that hold a centre; the count of its task divides an object's loss."""
        task = tasks[truth.labels]
        wanted = box_coder.encode(truth.boxes)
        last = constant(box_coder.grid_shape, wanted) - 1  # a division may round up to the upper edge
        cells = wanted[:, :2].floor().minimum(last)
        wanted[:, :2] -= cells
        x, y = cells.long().unbind(1)
        predicted = codes[truth.sample, task, :, x, y]
        counts = _count_by_task(task, torch.ones_like(task), len(tasks))
        weight = constant(self.code_weights, wanted) / counts[task][:, None]
        return weighted_l1_loss(predicted, wanted, weight, avg_factor=1)


def _count_by_task(task: Tensor, amounts: Tensor, num: int) -> Tensor:
    """Sum up amounts (N,) by task (N,), average over the processes; at least 1 in all; (num,) float32."""
    counts = torch.zeros(num, device=task.device).index_add_(0, task, amounts.float())  # whole numbers: exact
    return mean_over_processes(counts, min_total=1)
