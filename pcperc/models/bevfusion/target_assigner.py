# SPDX-License-Identifier: Apache-2.0
"""What a detector's head should say: a heatmap of object centres, and one proposal for each object."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pcperc import ops
from pcperc.models.bevfusion.box_coder import BoxCoder
from pcperc.models.bevfusion.truth import Truth
from pcperc.models.constants import constant
from pcperc.registry import MODELS

# Stands for the cost of a pair that a diverged prediction makes infinite or NaN: such a pair is matched last.
HOPELESS_COST = 1e4


def gaussian_radius(length: Tensor, width: Tensor, *, min_overlap: float) -> Tensor:
    """Radius of the Gaussian for a box, so that boxes as far off as that still overlap it by about ``min_overlap``.

    CornerNet takes the least of three cases: the box shifted, shrunk or grown. The released heatmap heads since
    CenterNet halve the larger root of each quadratic instead of dividing by its leading coefficient. Published results
    depend on it, so it is kept; then the grown box always decides, with 4 * min_overlap times its true radius.

    Args:
        length, width: same shape, floating, in cells, >= 0.
        min_overlap: intersection over union, in (0, 1).
    Returns:
        Radius in cells, shape and dtype of the input.
    Source: Law and Deng, CornerNet, ECCV 2018, section 3.2; Zhou et al., Objects as points, 2019, released code.
    """
    half_b = min_overlap * (length + width)
    return (half_b**2 + 4 * min_overlap * (1 - min_overlap) * length * width).sqrt() - half_b


def draw_heatmap(
    centers: Tensor,
    sizes: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    grid_shape: tuple[int, int],
    min_overlap: float,
    min_radius: int,
) -> Tensor:
    """Draw one Gaussian per object; where two of a class overlap, the larger value stands.

    A Gaussian has its peak, exactly 1, at the cell that holds the centre, sigma (2 r + 1) / 6, and ends at r cells
    along x and y, r = max(min_radius, floor(gaussian_radius)).

    Args:
        centers: (K, 2) floating, BEV cells, inside the grid.
        sizes: (K, 2) length and width in cells, > 0.
        labels: (K,) int64.
    Returns:
        (num_classes, X, Y) in the dtype of ``centers``; zeros for K = 0.
    """
    heatmap = centers.new_zeros(num_classes, grid_shape[0] * grid_shape[1])
    if len(centers) == 0:
        return heatmap.view(num_classes, *grid_shape)
    radius = gaussian_radius(sizes[:, 0], sizes[:, 1], min_overlap=min_overlap).floor().clamp(min=min_radius)
    spread = 2 * ((2 * radius + 1) / 6) ** 2
    profiles = []
    for axis in range(2):
        cells = torch.arange(grid_shape[axis], device=centers.device, dtype=centers.dtype)
        offset = cells - centers[:, axis : axis + 1].floor()  # (K, X) or (K, Y)
        profiles.append((-(offset**2) / spread[:, None]).exp() * (offset.abs() <= radius[:, None]))
    gaussians = (profiles[0][:, :, None] * profiles[1][:, None, :]).flatten(1)
    # amax depends on no order, so the result repeats bit for bit on a GPU too.
    heatmap.scatter_reduce_(0, labels[:, None].expand_as(gaussians), gaussians, "amax")
    return heatmap.view(num_classes, *grid_shape)


def draw_heatmaps(
    truth: Truth, box_coder: BoxCoder, *, num_classes: int, min_overlap: float, min_radius: int
) -> Tensor:
    """Draw the objects of each sample as `draw_heatmap` does; (B, num_classes, X, Y) float32."""
    drawn = draw_heatmap(
        box_coder.to_cells(truth.boxes[:, :2]),
        truth.boxes[:, 3:5] / constant(box_coder.cell_size, truth.boxes),
        truth.labels + truth.sample * num_classes,
        num_classes=len(truth.counts) * num_classes,
        grid_shape=box_coder.grid_shape,
        min_overlap=min_overlap,
        min_radius=min_radius,
    )
    return drawn.unflatten(0, (-1, num_classes))


class Assignment(NamedTuple):
    """Matched pairs by sample, of each as many as the smaller of P proposals and K objects, by rising proposal."""

    sample_index: Tensor  # (n,) int64
    proposal_index: Tensor  # (n,) int64, among the proposals of the sample
    object_index: Tensor  # (n,) int64, among the objects of the batch
    iou: Tensor  # (n,) float32, 3D intersection over union of each pair


@MODELS.register_module()
class HungarianAssigner:
    """Match proposals and objects of each sample one to one at the least total cost.

    Cost of a pair: classification (difference of the focal terms) + L1 distance of the centres on the ground, each
    axis divided by its range, - 3D intersection over union; each times its weight.

    Args:
        point_range: (x0, y0, z0, x1, y1, z1) metres.
        class_weight, center_weight, iou_weight: weights of the three terms.
        alpha, gamma: of the focal terms.
    Source: Bai et al., TransFusion, CVPR 2022, section 3.5.
    """

    def __init__(
        self,
        point_range: tuple[float, ...],
        *,
        class_weight: float = 0.15,
        center_weight: float = 0.25,
        iou_weight: float = 0.25,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ):
        self.extent = (point_range[3] - point_range[0], point_range[4] - point_range[1])
        self.class_weight, self.center_weight, self.iou_weight = class_weight, center_weight, iou_weight
        self.alpha, self.gamma = alpha, gamma

    @torch.no_grad()
    def assign(self, proposals: Tensor, logits: Tensor, truth: Truth) -> Assignment:
        """Match P proposals of each of B samples with the sample's objects. On a GPU this waits once, for all costs.

        Args:
            proposals: (B, P, 9) float32 predicted boxes.
            logits: (B, P, C) float32 class logits.
        """
        iou = self._iou(proposals, truth)
        cost = self._cost(iou, proposals, logits, truth).cpu().numpy()
        pairs, start = [np.zeros((3, 0), np.int64)], 0
        for number, count in enumerate(truth.counts):
            rows, columns = linear_sum_assignment(cost[start : start + count].T)
            pairs.append(np.stack([np.full(len(rows), number), rows, columns + start]))
            start += count
        sample, proposal, wanted = torch.from_numpy(np.concatenate(pairs, 1)).to(proposals.device, non_blocking=True)
        return Assignment(sample, proposal, wanted, iou[wanted, proposal])

    @staticmethod
    def _iou(proposals: Tensor, truth: Truth) -> Tensor:
        """(M, P): of each object with the proposals of its sample."""
        boxes = truth.boxes[:, :7].contiguous().split(truth.counts)
        found = proposals[..., :7].contiguous()
        return torch.cat([ops.box_iou_3d(own, near) for own, near in zip(boxes, found, strict=True)])

    def _cost(self, iou: Tensor, proposals: Tensor, logits: Tensor, truth: Truth) -> Tensor:
        """(M, P), finite: what it costs to match each object with the proposals of its sample."""
        extent = constant(self.extent, proposals)
        distance = (proposals[truth.sample, :, :2] / extent - truth.boxes[:, None, :2] / extent).abs().sum(2)
        cost = self.class_weight * self.class_cost(logits)[truth.sample, :, truth.labels]
        cost = cost + self.center_weight * distance - self.iou_weight * iou
        return cost.nan_to_num(HOPELESS_COST, HOPELESS_COST, -HOPELESS_COST)

    def class_cost(self, logits: Tensor) -> Tensor:
        """Return (..., C): what calling a proposal class c adds to the focal loss, against calling it background."""
        probability, complement = logits.sigmoid(), (-logits).sigmoid()
        positive = -self.alpha * complement**self.gamma * (probability + 1e-12).log()
        negative = -(1 - self.alpha) * probability**self.gamma * (complement + 1e-12).log()
        return positive - negative
