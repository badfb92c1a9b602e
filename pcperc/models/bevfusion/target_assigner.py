# SPDX-License-Identifier: Apache-2.0
"""What the TransFusion head should say: a heatmap of object centres, and one proposal for each object."""

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pcperc import ops
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


class Assignment(NamedTuple):
    """Matched pairs, as many as the smaller of P proposals and K objects, by rising proposal index."""

    proposal_index: Tensor  # (n,) int64
    object_index: Tensor  # (n,) int64
    iou: Tensor  # (n,) float32, 3D intersection over union of each pair


@MODELS.register_module()
class HungarianAssigner:
    """Match proposals and objects one to one at the least total cost.

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
    def assign(self, proposals: Tensor, logits: Tensor, boxes: Tensor, labels: Tensor) -> Assignment:
        """Match P proposals with K objects of one sample.

        Args:
            proposals: (P, 9) float32 predicted boxes.
            logits: (P, C) float32 class logits.
            boxes: (K, 9) float32 true boxes; labels: (K,) int64.
        """
        if len(boxes) == 0 or len(proposals) == 0:
            none = labels.new_zeros(0)
            return Assignment(none, none, proposals.new_zeros(0))
        iou = ops.box_iou_3d(proposals[:, :7].contiguous(), boxes[:, :7].contiguous())
        extent = proposals.new_tensor(self.extent)
        distance = torch.cdist(proposals[:, :2] / extent, boxes[:, :2] / extent, p=1)
        cost = self.class_weight * self.class_cost(logits)[:, labels]
        cost = cost + self.center_weight * distance - self.iou_weight * iou
        cost = cost.nan_to_num(HOPELESS_COST, HOPELESS_COST, -HOPELESS_COST).cpu()
        rows, columns = (torch.from_numpy(index).to(boxes.device) for index in linear_sum_assignment(cost.numpy()))
        return Assignment(rows, columns, iou[rows, columns])

    def class_cost(self, logits: Tensor) -> Tensor:
        """Return (P, C): what calling proposal p class c adds to the focal loss, against calling it background."""
        probability, complement = logits.sigmoid(), (-logits).sigmoid()
        positive = -self.alpha * complement**self.gamma * (probability + 1e-12).log()
        negative = -(1 - self.alpha) * probability**self.gamma * (complement + 1e-12).log()
        return positive - negative
