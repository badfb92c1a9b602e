# SPDX-License-Identifier: Apache-2.0
"""F-PVCNN: the box of the object in the frustum of a two-dimensional box.

Source: Qi, Liu, Wu, Su and Guibas, "Frustum PointNets for 3D Object Detection from RGB-D Data", CVPR 2018, section 4,
with PVCNN for the segmentation: Liu, Tang, Lin and Han, NeurIPS 2019, section 5.3.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pcperc import nn as spnn
from pcperc import ops
from pcperc.models.pvcnn.layers import check_network_input, cloud_max, make_head, one_hot_categories, scaled
from pcperc.models.pvcnn.network import PVCNN
from pcperc.registry import MODELS
from pcperc.sparse import PointTensor


class FrustumBoxes(NamedTuple):
    """What is estimated for B frustums with H bins of the heading and S size templates; metres and radians."""

    mask_logits: Tensor  # (N, 2), background and object, of every point
    first_center: Tensor  # (B, 3) after the centre regression
    center: Tensor  # (B, 3) after the box estimation
    heading_scores: Tensor  # (B, H) logits; bin h is centred on 2 pi h / H
    heading_residuals: Tensor  # (B, H) in units of pi / H, to be added to the bin's centre
    size_scores: Tensor  # (B, S) logits
    size_residuals: Tensor  # (B, S, 3) in units of the template

    def heading(self) -> Tensor:
        """(B,) angle of the best bin with its residual, radians."""
        bins = self.heading_scores.shape[1]
        best = self.heading_scores.argmax(1, keepdim=True)
        residual = self.heading_residuals.gather(1, best) * (math.pi / bins)
        return (best * (2 * math.pi / bins) + residual).squeeze(1)

    def size(self, templates: Tensor) -> Tensor:
        """(B, 3) size of the best of (S, 3) templates with its residual, metres."""
        best = self.size_scores.argmax(1)
        residual = self.size_residuals[torch.arange(len(best), device=best.device), best]
        return templates[best] * (1 + residual)


class CloudRegressor(nn.Module):
    """PointNet of a cloud: perceptrons of its coordinates, their maximum, and a head that also sees the category.

    Shape: (N, 3) coordinates, ``points`` that they belong to, (B, num_categories) to (B, out_channels).
    """

    def __init__(
        self, channels: Sequence[int], head: Sequence[int], out_channels: int, num_categories: int, width: float
    ):
        super().__init__()
        self.mlp = spnn.SharedMLP(3, scaled(width, channels))
        self.head = make_head(self.mlp.out_channels + num_categories, head, out_channels, width=width)

    def forward(self, xyz: Tensor, points: PointTensor, one_hot: Tensor) -> Tensor:
        cloud = cloud_max(self.mlp(xyz), points)
        return self.head(torch.cat([cloud, one_hot.to(cloud.dtype)], 1))


@MODELS.register_module()
class FrustumPVCNN(nn.Module):
    """Segment a frustum, move to the object's points, regress their centre, and estimate the box around it.

    Args:
        segmentation: network of points and categories with 2 classes, such as a ``PVCNN``.
        num_headings, num_sizes: bins of the heading and size templates, >= 1.
        object_points: the first so many points of the object are looked at; frustums hold points in random order.
        center_channels, center_head, box_channels, box_head: widths of the two regressors.
        width: factor on their widths, rounded down.
    Shape: PointTensor with coordinates in metres in the frustum's frame and the segmentation's features, and categories
        (B,) int64, to ``FrustumBoxes``. A frustum without points, or none of which is taken for the object, has an
        object at the origin with features 0: its box is what the heads make of the category alone.
    Raises:
        TypeError, ValueError: as ``PVCNN``; a segmentation without categories or of other than 2 classes.
    """

    def __init__(
        self,
        segmentation: PVCNN,
        *,
        num_headings: int = 12,
        num_sizes: int = 8,
        object_points: int = 512,
        center_channels: Sequence[int] = (128, 128, 256),
        center_head: Sequence[int] = (256, 128),
        box_channels: Sequence[int] = (128, 128, 256, 512),
        box_head: Sequence[int] = (512, 256),
        width: float = 1.0,
    ):
        super().__init__()
        if segmentation.num_classes != 2 or segmentation.num_categories < 1:
            got = f"{segmentation.num_classes} classes and {segmentation.num_categories} categories"
            raise ValueError(f"FrustumPVCNN: segmentation must have 2 classes and categories, got {got}")
        self.segmentation = segmentation
        self.num_headings, self.num_sizes, self.object_points = num_headings, num_sizes, object_points
        categories = segmentation.num_categories
        outputs = 3 + 2 * num_headings + 4 * num_sizes
        self.center_regressor = CloudRegressor(center_channels, center_head, 3, categories, width)
        self.box_estimator = CloudRegressor(box_channels, box_head, outputs, categories, width)

    def forward(self, points: PointTensor, categories: Tensor) -> FrustumBoxes:
        name = type(self).__name__
        check_network_input(name, points, self.segmentation.in_channels)
        one_hot = one_hot_categories(name, points, categories, self.segmentation.num_categories)
        mask_logits = self.segmentation(points, categories).feats
        objects, mean = object_points(points, mask_logits[:, 1] > mask_logits[:, 0], self.object_points)
        xyz = objects.coords[:, 1:] - ops.gather_rows(mean, objects.items.index)
        xyz = xyz.to(points.dtype)
        delta = self.center_regressor(xyz, objects, one_hot)
        first_center = delta + mean
        xyz = xyz - ops.gather_rows(delta, objects.items.index).to(xyz.dtype)
        box = self.box_estimator(xyz, objects, one_hot)
        headings, sizes = self.num_headings, self.num_sizes
        center, *scores, residuals = box.split([3, headings, headings, sizes, 3 * sizes], 1)
        return FrustumBoxes(mask_logits, first_center, center + first_center, *scores, residuals.reshape(-1, sizes, 3))


def object_points(points: PointTensor, mask: Tensor, limit: int) -> tuple[PointTensor, Tensor]:
    """Return the first ``limit`` points of each cloud where ``mask`` (N,) is set, and the mean of all such, (B, 3).

    The mean of a cloud without such points is 0.
    """
    item = torch.where(mask, points.items.index, -1)
    chosen = ops.make_segments(item, num_segments=points.batch_size)
    mean = ops.segment_reduce(points.coords[:, 1:], chosen, mode="mean")
    item = chosen.index[chosen.order]
    rank = torch.arange(len(item), device=item.device) - chosen.starts[item.clamp(min=0)]
    return points.take(chosen.order[(item >= 0) & (rank < limit)]), mean
