# SPDX-License-Identifier: Apache-2.0
"""The true masks of BEV map segmentation, drawn from the map of the place."""

from collections.abc import Sequence

from pcperc.geometry import BEVGrid, world2lidar_plane
from pcperc.registry import TRANSFORMS
from pcperc.transforms.compose import Sample, require_keys


@TRANSFORMS.register_module()
class DrawMapMasks:
    """Draw ``map_masks`` (C, X, Y) bool on ``map_grid`` where the points now are; comes after all that moves the scene.

    A cell belongs to an area whose inside holds its centre, and to a divider not further from it than half the width.
    The published masks are drawn by OpenCV from corners rounded to cells: areas are there up to a cell wider and half
    a cell to the upper right. ``as_published`` draws such, which the published weights and scores are of. The published
    scene augmentation moves masks by its turn alone; here by all of it.

    Args:
        x_bound, y_bound: first edge, last edge and cell size of the masks, metres.
        line_width: of dividers, metres; 1.5 is what OpenCV draws as the published 2 pixels of 0.5 m. Not used with
            ``as_published``.
        as_published: see above.
    Raises:
        ValueError: a bound that is no whole number of cells, a width that is not positive.
    Source: Liu et al., BEVFusion, ICRA 2023, section IV: 100 m x 100 m in cells of 0.5 m.
    """

    def __init__(
        self,
        *,
        x_bound: Sequence[float] = (-50.0, 50.0, 0.5),
        y_bound: Sequence[float] = (-50.0, 50.0, 0.5),
        line_width: float = 1.5,
        as_published: bool = False,
    ) -> None:
        self.grid = BEVGrid(tuple(x_bound), tuple(y_bound))
        if not line_width > 0:
            raise ValueError(f"DrawMapMasks: line_width must be > 0, got {line_width}")
        self.line_width, self.as_published = float(line_width), as_published

    def __call__(self, sample: Sample) -> Sample:
        require_keys(sample, "DrawMapMasks", "vector_map", "ego2global", "lidar2ego", "lidar_aug")
        world2grid = world2lidar_plane(sample["ego2global"], sample["lidar2ego"], sample["lidar_aug"])
        if self.as_published:
            masks = sample["vector_map"].masks_as_published(world2grid, self.grid)
        else:
            masks = sample["vector_map"].masks(world2grid, self.grid, line_width=self.line_width)
        return {**sample, "map_masks": masks, "map_grid": self.grid}
