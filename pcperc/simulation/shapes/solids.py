# SPDX-License-Identifier: Apache-2.0
"""Solids that shapes are built of, and points drawn evenly over their surfaces: what all share, and prisms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

UP = (0.0, 1.0, 0.0)
GAP = 1e-6  # how far inside another solid a point of the surface has to be to be hidden


class Solid:
    """A surface around its own origin, put into the world.

    Attributes:
        part: index of the part that it belongs to. filled: whether it hides what other solids have inside it.
        origin: (3,). axes: (3, 3), rows are its own x, y and z in the world.
    """

    area: float

    def __init__(self, part: int, origin, axes, *, filled: bool = True) -> None:
        self.part, self.filled = part, filled
        self.origin, self.axes = np.asarray(origin, np.float64), np.asarray(axes, np.float64)

    def draw(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return points and outward normals (count, 3) of its own frame, evenly spread over the surface."""
        raise NotImplementedError

    def holds(self, xyz: np.ndarray) -> np.ndarray:
        """Return (N,) bool: which points of its own frame lie more than ``GAP`` inside."""
        raise NotImplementedError

    @property
    def half_size(self) -> np.ndarray:
        """(3,) of a box around it, about ``centre`` in its own frame."""
        raise NotImplementedError

    @property
    def centre(self) -> np.ndarray:
        """(3,) middle of that box in its own frame."""
        return np.zeros(3)

    @property
    def middle(self) -> np.ndarray:
        """(3,) the same in the world."""
        return self.centre @ self.axes + self.origin

    @property
    def reach(self) -> np.ndarray:
        """(3,) half the size of a box around it along the axes of the world."""
        return self.half_size @ np.abs(self.axes)

    def draw_in_world(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return points and normals (count, 3) of the world."""
        points, normals = self.draw(rng, count)
        return points @ self.axes + self.origin, normals @ self.axes

    def hides(self, xyz: np.ndarray) -> np.ndarray:
        """Return (N,) bool: which points of the world are inside it."""
        return self.holds((xyz - self.origin) @ self.axes.T) if self.filled else np.zeros(len(xyz), bool)


def frame_along(direction) -> np.ndarray:
    """Return axes (3, 3) whose y runs along ``direction`` and whose x is as level as it can be."""
    y = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    side = np.cross(y, UP)
    if np.linalg.norm(side) < 1e-9:
        side = np.array([1.0, 0.0, 0.0])
    x = side / np.linalg.norm(side)
    return np.stack([x, y, np.cross(x, y)])


class Prism(Solid):
    """A convex polygon (K, 2), counter-clockwise in the plane of its x and y, thick along z."""

    def __init__(self, part: int, origin, axes, *, polygon, thickness: float) -> None:
        super().__init__(part, origin, axes)
        self.polygon, self.half = np.asarray(polygon, np.float64), thickness / 2
        edges = np.roll(self.polygon, -1, axis=0) - self.polygon
        lengths = np.linalg.norm(edges, axis=1)
        self.outward = np.stack([edges[:, 1], -edges[:, 0]], 1) / lengths[:, None]
        fan = self.polygon[1:] - self.polygon[0]
        self.triangles = (fan[:-1, 0] * fan[1:, 1] - fan[:-1, 1] * fan[1:, 0]) / 2
        self.faces = np.concatenate([self.triangles, self.triangles, lengths * thickness])
        self.area = float(self.faces.sum())

    @property
    def half_size(self):
        return np.array([*(np.ptp(self.polygon, axis=0) / 2), self.half])

    @property
    def centre(self):
        return np.array([*((self.polygon.min(0) + self.polygon.max(0)) / 2), 0.0])

    def draw(self, rng, count):
        face = rng.choice(len(self.faces), count, p=self.faces / self.area)
        number, (u, v) = len(self.triangles), rng.random((2, count))
        flip = u + v > 1
        u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
        triangle = face % number
        corner, ends = self.polygon[0], (self.polygon[triangle + 1], self.polygon[triangle + 2])
        flat = corner + u[:, None] * (ends[0] - corner) + v[:, None] * (ends[1] - corner)
        side = np.maximum(face - 2 * number, 0)
        along = self.polygon[side] + rng.random((count, 1)) * (np.roll(self.polygon, -1, axis=0) - self.polygon)[side]
        on_side, height = face >= 2 * number, rng.uniform(-self.half, self.half, count)
        sign = np.where(face < number, 1.0, -1.0)
        points = np.concatenate([np.where(on_side[:, None], along, flat), np.zeros((count, 1))], 1)
        points[:, 2] = np.where(on_side, height, sign * self.half)
        normals = np.zeros((count, 3))
        normals[:, :2] = np.where(on_side[:, None], self.outward[side], 0.0)
        normals[:, 2] = np.where(on_side, 0.0, sign)
        return points, normals

    def holds(self, xyz):
        depth = ((self.polygon[None] - xyz[:, None, :2]) * self.outward[None]).sum(2).min(1)
        return (depth > GAP) & (self.half - np.abs(xyz[:, 2]) > GAP)


def surface_points(
    solids: Sequence[Solid], count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw points evenly over what is seen of solids together: none is inside another one.

    Returns:
        points and normals (count, 3) float64, and the part of each, (count,) int64.
    """
    share = np.array([solid.area for solid in solids])
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    missing = count
    while missing > 0:
        numbers = rng.multinomial(2 * missing + 16, share / share.sum())
        drawn = []
        for index, (solid, number) in enumerate(zip(solids, numbers, strict=True)):
            points, normals = solid.draw_in_world(rng, int(number))
            seen = ~np.any([other.hides(points) for k, other in enumerate(solids) if k != index] or [False], axis=0)
            seen = np.broadcast_to(seen, len(points))
            drawn.append((points[seen], normals[seen], np.full(int(seen.sum()), solid.part)))
        together = [np.concatenate(column) for column in zip(*drawn, strict=True)]
        order = rng.permutation(len(together[0]))[:missing]
        found.append(tuple(column[order] for column in together))
        missing -= len(order)
    points, normals, parts = (np.concatenate(column) for column in zip(*found, strict=True))
    return points, normals, parts.astype(np.int64)
