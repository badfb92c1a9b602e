# SPDX-License-Identifier: Apache-2.0
"""What the networks of PVCNN see of whole shapes."""

import math

import torch
from torch import Tensor

from pcperc.models.cloud_preprocessor import CloudPreprocessor
from pcperc.models.sampling import draw_view, whole_views
from pcperc.registry import MODELS


@MODELS.register_module()
class ShapePreprocessor(CloudPreprocessor):
    """Shapes: drawn from all of their points, centred and scaled to the unit sphere.

    The mean of all recorded points becomes the origin and the one furthest from it lies at distance 1; where all points
    are equal they are at the origin. Features are x, y, z as the network sees them and the normal.

    Args:
        num_points, votes, num_categories, non_blocking: as in ``CloudPreprocessor``.
        normals: whether points have columns nx, ny, nz.
        replace: whether in training points are drawn with replacement, as published for ShapeNet-Part.
        jitter: standard deviation of what is added to each coordinate in training, and the most of it.
    Raises:
        ValueError: as ``CloudPreprocessor``; a negative jitter.
    Source: Liu, Tang, Lin and Han, "Point-Voxel CNN", NeurIPS 2019, section 5.1, and the code published with it.
    """

    def __init__(
        self,
        num_points: int = 2048,
        *,
        votes: int = 1,
        num_categories: int = 16,
        normals: bool = True,
        replace: bool = True,
        jitter: tuple[float, float] = (0.01, 0.05),
        non_blocking: bool = False,
    ):
        columns = ("x", "y", "z", *(("nx", "ny", "nz") if normals else ()))
        options = dict(votes=votes, columns=columns, num_categories=num_categories, non_blocking=non_blocking)
        super().__init__(num_points, **options)
        if len(jitter) != 2 or not all(0 <= value < math.inf for value in jitter):
            raise ValueError(f"ShapePreprocessor: jitter must be >= 0, a deviation and the most of it, got {jitter}")
        self.replace, self.jitter = replace, tuple(jitter)

    def draw(self, cloud: Tensor, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        if training:
            rows = torch.arange(len(cloud), device=cloud.device)
            views = draw_view(rows, self.num_points, replace=self.replace)[None]
        else:
            views = whole_views(len(cloud), self.num_points, votes=self.votes, device=cloud.device)
        xyz = cloud[:, :3] - cloud[:, :3].mean(0)
        largest = xyz.square().sum(1).amax().sqrt() if len(xyz) else xyz.new_ones(())
        xyz = (xyz / torch.where(largest > 0, largest, 1))[views]
        if training and self.jitter[0]:
            sigma, most = self.jitter
            xyz = xyz + (sigma * torch.randn_like(xyz)).clamp(-most, most)
        return xyz, torch.cat([xyz, cloud[:, 3 : len(self.columns)][views]], 2), views
