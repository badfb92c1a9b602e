# SPDX-License-Identifier: Apache-2.0
"""The loss of Frustum PointNets: the object's points, its centre, heading, size and corners."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcperc.models.losses.processes import mean_over_processes
from pcperc.models.losses.segmentation import cross_entropy_loss, labelled_weight
from pcperc.registry import MODELS


class FrustumTargets(NamedTuple):
    """The truth of B frustums with N points, in the network's axes: x right, y down, z forward; metres, radians."""

    mask: Tensor  # (N,) int64: 1 on the object, 0 beside it, 255 not known
    center: Tensor  # (B, 3)
    size: Tensor  # (B, 3) length, width, height
    heading: Tensor  # (B,) about y; 0 heads along x
    template: Tensor  # (B,) int64, the size template of the object's class


def huber_loss(error: Tensor, *, delta: float) -> Tensor:
    """Mean of ``e^2 / 2`` where ``|e| <= delta``, else of ``delta (|e| - delta / 2)``; () in the dtype of the error."""
    return F.huber_loss(error, torch.zeros_like(error), delta=delta)


def heading_bins(heading: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Return the bin (B,) int64 of each angle and what is left in units of pi / bins, in [-1, 1]; bin h is centred on
    2 pi h / bins."""
    width = 2 * math.pi / bins
    place = torch.remainder(heading, 2 * math.pi) / width
    nearest = (place + 0.5).floor()
    return nearest.long() % bins, 2 * (place - nearest)


def frustum_corners(center: Tensor, size: Tensor, heading: Tensor) -> Tensor:
    """Return the corners of boxes, (B, 8, 3), of centres (B, 3), sizes (B, 3) and headings (B,) of FrustumTargets."""
    sign = torch.arange(8, device=center.device)[:, None] >> torch.arange(3, device=center.device) & 1
    along, across, up = ((sign.to(center.dtype) - 0.5) * size[:, None]).unbind(2)
    cos, sin = heading.cos()[:, None], heading.sin()[:, None]
    local = torch.stack([cos * along + sin * across, up, cos * across - sin * along], 2)
    return local + center[:, None]


@MODELS.register_module()
class FrustumLoss(nn.Module):
    """Cross entropies of mask, heading bin and size template, Huber losses of what is regressed, and of the corners.

    Residuals count for the true bin and the true template alone. A corner's distance is the smaller one to its
    counterparts in the true box and in the true box turned round.

    Args:
        templates: (S, 3) length, width, height of the size templates, metres.
        corners, heading_residual, size_residual: factors of these three.
        box: factor of all but the mask.
    Raises:
        ValueError: templates that are not (S, 3) and > 0; a negative factor.
    Source: Qi, Liu, Wu, Su and Guibas, "Frustum PointNets", CVPR 2018, section 4.4, with the factors and Huber widths
        of the code published with PVCNN.
    """

    def __init__(
        self,
        templates: Sequence[Sequence[float]],
        *,
        box: float = 1.0,
        corners: float = 10.0,
        heading_residual: float = 20.0,
        size_residual: float = 20.0,
    ):
        super().__init__()
        sizes = [size for row in templates for size in row]
        if not sizes or any(len(row) != 3 for row in templates) or not all(0 < size < math.inf for size in sizes):
            raise ValueError(f"FrustumLoss: templates must be (S, 3) and > 0, got {templates}")
        if not all(0 <= factor < math.inf for factor in (box, corners, heading_residual, size_residual)):
            raise ValueError(
                "FrustumLoss: factors must be >= 0, got "
                f"box {box}, corners {corners}, heading_residual {heading_residual}, size_residual {size_residual}"
            )
        self.register_buffer("templates", torch.tensor(templates, dtype=torch.float32), persistent=False)
        self.box, self.corners = float(box), float(corners)
        self.heading_residual, self.size_residual = float(heading_residual), float(size_residual)

    def forward(self, boxes, targets: FrustumTargets) -> dict[str, Tensor]:
        """Return the losses of ``FrustumBoxes``, times their factors; B >= 1. Computed in float32 or wider."""
        wide = torch.promote_types(boxes.center.dtype, torch.float32)
        center, first_center = boxes.center.to(wide), boxes.first_center.to(wide)
        target, size = targets.center.to(wide), targets.size.to(wide)
        template = self.templates.to(wide)[targets.template]
        rows = torch.arange(len(center), device=center.device)
        bins = boxes.heading_scores.shape[1]
        heading_bin, rest = heading_bins(targets.heading.to(wide), bins)
        residual = boxes.heading_residuals.to(wide)[rows, heading_bin]
        size_residual = boxes.size_residuals.to(wide)[rows, targets.template]
        heading = (heading_bin * 2 + residual) * (math.pi / bins)
        found = frustum_corners(center, template * (1 + size_residual), heading)
        distances = [
            (found - frustum_corners(target, size, targets.heading.to(wide) + turn)).norm(dim=2)
            for turn in (0.0, math.pi)
        ]
        points = mean_over_processes(labelled_weight(targets.mask), min_total=1e-6)
        mask = cross_entropy_loss(boxes.mask_logits, targets.mask, avg_factor=points)
        box = {
            "loss_center": huber_loss((target - center).norm(dim=1), delta=2.0),
            "loss_first_center": huber_loss((target - first_center).norm(dim=1), delta=1.0),
            "loss_heading": F.cross_entropy(boxes.heading_scores.to(wide), heading_bin),
            "loss_heading_residual": self.heading_residual * huber_loss(residual - rest, delta=1.0),
            "loss_size": F.cross_entropy(boxes.size_scores.to(wide), targets.template),
            "loss_size_residual": self.size_residual
            * huber_loss((size / template - 1 - size_residual).norm(dim=1), delta=1.0),
            "loss_corners": self.corners * huber_loss(torch.minimum(*distances), delta=1.0),
        }
        return {"loss_mask": mask} | {name: self.box * loss for name, loss in box.items()}
