# SPDX-License-Identifier: Apache-2.0
"""The map of a place as areas and lines, and what a network says of the ground around the vehicle."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from torch import Tensor

from pcperc.geometry.bev_grid import BEVGrid, draw_lines, fill_areas, line_segments, ring_edges


@dataclass(frozen=True)
class VectorMap:
    """What is where in a place, by class; a class may have areas, lines or both. Metres, world frame.

    Attributes:
        name: of the place.
        areas: class to areas; each is a list of rings (N >= 3, 2), the first around it, the others around its holes.
        lines: class to lines (N >= 2, 2). The keys are those of ``areas``, in the same order.
    """

    name: str
    areas: dict[str, list[list[np.ndarray]]]
    lines: dict[str, list[np.ndarray]]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.areas)

    @cached_property
    def edges(self) -> dict[str, np.ndarray]:
        """Class to the (E, 2, 2) directed edges of its areas, as `fill_areas` takes them."""
        return {
            name: _joined(ring_edges(ring, hole=k > 0) for rings in areas for k, ring in enumerate(rings))
            for name, areas in self.areas.items()
        }

    @cached_property
    def segments(self) -> dict[str, np.ndarray]:
        """Class to the (S, 2, 2) segments of its lines."""
        return {name: _joined(map(line_segments, lines)) for name, lines in self.lines.items()}

    def masks(self, world2grid: np.ndarray, grid: BEVGrid, *, line_width: float) -> np.ndarray:
        """Draw the map as seen from a vehicle, exactly.

        Args:
            world2grid: (3, 3) x, y, 1 of the world to the grid's frame: a rotation or reflection, a uniform scale and
                a translation.
            grid: the cells.
            line_width: of a line in the world, metres.
        Returns:
            (C, X, Y) bool: whether the centre of the cell lies in an area of the class, or on a line of it.
        """
        determinant = float(np.linalg.det(world2grid[:2, :2]))
        width = line_width * math.sqrt(abs(determinant))
        masks = np.zeros((len(self.areas), *grid.shape), bool)
        for mask, name in zip(masks, self.areas, strict=True):
            edges = _moved(self.edges[name], world2grid)
            # In a mirror every ring runs the other way round.
            mask |= fill_areas(edges if determinant > 0 else edges[:, ::-1], grid)
            mask |= draw_lines(_moved(self.segments[name], world2grid), grid, width=width)
        return masks

    def masks_as_published(self, world2grid: np.ndarray, grid: BEVGrid) -> np.ndarray:
        """Draw the map as the devkit's `get_map_mask` does, whose masks the published scores are of.

        Corners of areas are rounded to whole cells and OpenCV fills up to and with the edge; a hole cuts what was drawn
        before it, of other areas too. Lines have their corners rounded down and are two cells thick. The devkit cuts
        shapes at the border of the grid first, so cells next to it may differ.

        Args:
            world2grid, grid: as in ``masks``.
        Returns:
            (C, X, Y) bool.
        """
        masks = np.zeros((len(self.areas), *grid.shape), np.uint8)
        for mask, name in zip(masks, self.areas, strict=True):
            for rings in self.areas[name]:
                around, *holes = (np.rint(_corners(ring, world2grid, grid)).astype(np.int32) for ring in rings)
                if ((around.max(0) >= 0) & (around.min(0) < grid.shape)).all():
                    # OpenCV's first axis is the second of an array.
                    cv2.fillPoly(mask, [around[:, ::-1]], 1)
                    cv2.fillPoly(mask, [hole[:, ::-1] for hole in holes], 0)
            for line in self.lines[name]:
                line = np.floor(_corners(line, world2grid, grid)).astype(np.int32)
                if ((line.max(0) >= -2) & (line.min(0) < np.add(grid.shape, 2))).all():
                    cv2.polylines(mask, [line[:, ::-1]], False, 1, 2)
        return masks.astype(bool)


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros((0, 2, 2)), *parts])


def _corners(points: np.ndarray, world2grid: np.ndarray, grid: BEVGrid) -> np.ndarray:
    """Return points (N, 2) in cells from the lower edges of the grid."""
    return grid.to_index(_moved(points, world2grid)) + 0.5


def _moved(places: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return (..., 2) places moved by a (3, 3) matrix."""
    return places @ matrix[:2, :2].T + matrix[:2, 2]


def world2lidar_plane(ego2global: np.ndarray, lidar2ego: np.ndarray, lidar_aug: np.ndarray) -> np.ndarray:
    """Return the (3, 3) matrix from x, y of the world to x, y of the LiDAR frame in which points and boxes now are.

    The LiDAR stands for upright: its heading is that of its x axis seen from above, as in the published code.

    Args:
        ego2global, lidar2ego, lidar_aug: (4, 4), docs/conventions.md; all that ``lidar_aug`` does is used, reflections
            and scale too.
    """
    lidar2global = ego2global @ lidar2ego
    heading = math.atan2(lidar2global[1, 0], lidar2global[0, 0])
    cos, sin = math.cos(heading), math.sin(heading)
    x, y = lidar2global[:2, 3]
    back = np.array([[cos, sin, -cos * x - sin * y], [-sin, cos, sin * x - cos * y], [0, 0, 1]])
    return lidar_aug[np.ix_([0, 1, 3], [0, 1, 3])] @ back


@dataclass(frozen=True)
class MapPrediction:
    """How probable each class is on each cell around one vehicle.

    Attributes:
        probabilities: (C, X, Y) floating, in [0, 1]; x first. Classes do not exclude each other.
        grid: the cells, in the LiDAR frame that the network looked at (``lidar_aug`` is not undone: tests do not
            augment, and the true masks of a sample are in that frame too).
    Raises:
        ValueError: probabilities of another shape than the grid's.
    """

    probabilities: Tensor
    grid: BEVGrid

    def __post_init__(self) -> None:
        if self.probabilities.ndim != 3 or tuple(self.probabilities.shape[1:]) != self.grid.shape:
            raise ValueError(
                f"MapPrediction: probabilities must be (C, {self.grid.shape[0]}, {self.grid.shape[1]}), "
                f"got {tuple(self.probabilities.shape)}"
            )

    def to(self, device) -> MapPrediction:
        """Return a copy on ``device`` (a tensor already there is shared)."""
        return MapPrediction(self.probabilities.to(device), self.grid)

    def numpy(self) -> MapPrediction:
        """Return the same as a numpy array, detached and on the CPU; bfloat16 becomes float32."""
        if not isinstance(self.probabilities, Tensor):
            return self
        values = self.probabilities.detach().cpu()
        return MapPrediction((values.float() if values.dtype is torch.bfloat16 else values).numpy(), self.grid)
