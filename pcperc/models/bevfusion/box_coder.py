# SPDX-License-Identifier: Apache-2.0
"""Between boxes in metres and the ten numbers that the TransFusion head regresses."""

import torch
from torch import Tensor

from pcperc.models.constants import constant
from pcperc.registry import MODELS

# exp(5) = 148 m is longer than any box and keeps an untrained head from writing infinities into the matching costs.
MAX_LOG_SIZE = 5.0


@MODELS.register_module()
class BoxCoder:
    """Code ``[x, y in BEV cells, z in metres, log l, log w, log h, sin yaw, cos yaw, vx, vy]``.

    Cell units count from the lower corner of ``point_range``: cell i spans [i, i + 1), its centre is i + 0.5.

    Args:
        point_range: (x0, y0, z0, x1, y1, z1) metres; the BEV grid spans its x and y.
        cell_size: (x, y) side of one BEV cell in metres, that is voxel size times the encoder's stride.
    Raises:
        ValueError: a range that is empty, or cells that do not divide it.
    Source: Bai et al., TransFusion, CVPR 2022, section 3.2; released configuration of BEVFusion.
    """

    code_size = 10

    def __init__(self, point_range: tuple[float, ...], cell_size: tuple[float, float]):
        if len(point_range) != 6 or any(hi <= lo for lo, hi in zip(point_range[:3], point_range[3:], strict=True)):
            raise ValueError(f"BoxCoder: point_range must be (x0, y0, z0, x1, y1, z1), growing, got {point_range}")
        self.point_range = tuple(float(v) for v in point_range)
        self.cell_size = tuple(float(v) for v in cell_size)
        extent = [self.point_range[3] - self.point_range[0], self.point_range[4] - self.point_range[1]]
        cells = [e / c for e, c in zip(extent, self.cell_size, strict=True)]
        if any(abs(n - round(n)) > 1e-6 or round(n) < 1 for n in cells):
            raise ValueError(f"BoxCoder: cell_size must divide the range {extent}, got {cell_size}")
        self.grid_shape = (round(cells[0]), round(cells[1]))

    def usable(self, boxes: Tensor) -> Tensor:
        """Return (K,) bool: finite boxes of positive size whose centre lies over the BEV grid (velocity may be NaN)."""
        x0, y0, _, x1, y1, _ = self.point_range
        inside = (boxes[:, 0] >= x0) & (boxes[:, 0] < x1) & (boxes[:, 1] >= y0) & (boxes[:, 1] < y1)
        return inside & (boxes[:, 3:6] > 0).all(1) & boxes[:, :7].isfinite().all(1)

    def to_cells(self, xy: Tensor) -> Tensor:
        """Turn positions (..., 2) in metres into BEV cells."""
        return (xy - constant(self.point_range[:2], xy)) / constant(self.cell_size, xy)

    def encode(self, boxes: Tensor) -> Tensor:
        """Encode boxes (K, 9) into codes (K, 10) of the same dtype; sizes must be positive; NaN velocities stay NaN."""
        yaw = boxes[:, 6:7]
        return torch.cat(
            [self.to_cells(boxes[:, :2]), boxes[:, 2:3], boxes[:, 3:6].log(), yaw.sin(), yaw.cos(), boxes[:, 7:9]], 1
        )

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes (..., 10) into boxes (..., 9) of the same dtype; yaw in [-pi, pi].

        (sin, cos) need not have length 1. Log sizes are clamped to +-5.
        """
        xy = codes[..., :2] * constant(self.cell_size, codes) + constant(self.point_range[:2], codes)
        size = codes[..., 3:6].clamp(-MAX_LOG_SIZE, MAX_LOG_SIZE).exp()
        yaw = torch.atan2(codes[..., 6:7], codes[..., 7:8])
        return torch.cat([xy, codes[..., 2:3], size, yaw, codes[..., 8:10]], -1)
