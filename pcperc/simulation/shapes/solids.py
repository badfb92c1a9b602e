# SPDX-License-Identifier: Apache-2.0
"""Solids that shapes are built of: prisms, tubes, balls and rings, with points drawn evenly over their surfaces."""

from __future__ import annotations

import math
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


class Tube(Solid):
    """A round tube along y from 0 to ``length``, of one radius below and another above, closed or open at its ends."""

    def __init__(self, part: int, origin, axes, *, length: float, low: float, high: float, closed: bool = True) -> None:
        super().__init__(part, origin, axes, filled=closed)
        self.length, self.low, self.high = length, low, high
        self.slant = math.hypot(length, low - high)
        ends = [math.pi * low**2, math.pi * high**2] if closed else [0.0, 0.0]
        self.faces = np.array([math.pi * (low + high) * self.slant, *ends])
        self.area = float(self.faces.sum())

    @property
    def half_size(self):
        radius = max(self.low, self.high)
        return np.array([radius, self.length / 2, radius])

    @property
    def centre(self):
        return np.array([0.0, self.length / 2, 0.0])

    def draw(self, rng, count):
        face, turn = rng.choice(3, count, p=self.faces / self.area), rng.uniform(0, 2 * math.pi, count)
        # Along the side the density grows with the radius: the root of what is even between the squares.
        square = self.low**2 + rng.random(count) * (self.high**2 - self.low**2)
        even = abs(self.high - self.low) < 1e-9
        height = rng.random(count) if even else (np.sqrt(square) - self.low) / (self.high - self.low)
        radius = self.low + height * (self.high - self.low)
        inner = np.sqrt(rng.random(count))
        radius = np.where(face == 0, radius, inner * np.where(face == 1, self.low, self.high))
        height = np.where(face == 0, height, np.where(face == 1, 0.0, 1.0)) * self.length
        points = np.stack([radius * np.cos(turn), height, radius * np.sin(turn)], 1)
        out, rise = self.length / self.slant, (self.low - self.high) / self.slant
        normals = np.stack([out * np.cos(turn), np.full(count, rise), out * np.sin(turn)], 1)
        ends = np.zeros((count, 3))
        ends[:, 1] = np.where(face == 1, -1.0, 1.0)
        return points, np.where((face == 0)[:, None], normals, ends)

    def holds(self, xyz):
        part = xyz[:, 1] / self.length
        radius = self.low + np.clip(part, 0, 1) * (self.high - self.low)
        within = (xyz[:, 1] > GAP) & (xyz[:, 1] < self.length - GAP)
        return within & (np.hypot(xyz[:, 0], xyz[:, 2]) < radius - GAP)


class Ball(Solid):
    """An ellipsoid of three radii, whole, or the dome above a height that is a part of its y radius."""

    def __init__(self, part: int, origin, axes, *, radii, above: float = -1.0) -> None:
        super().__init__(part, origin, axes, filled=above <= -1.0)
        self.radii, self.above = np.asarray(radii, np.float64), above
        p = 1.6075  # Knud Thomsen's formula, within 1.1 %
        a, b, c = self.radii**p
        whole = 4 * math.pi * ((a * b + a * c + b * c) / 3) ** (1 / p)
        self.area = whole * (1 - above) / 2

    @property
    def half_size(self):
        return self.radii

    def draw(self, rng, count):
        found, missing = [], count
        longest = 1 / self.radii.min()
        while missing > 0:
            unit = rng.normal(size=(2 * missing + 8, 3))
            unit /= np.linalg.norm(unit, axis=1, keepdims=True)
            stretch = np.linalg.norm(unit / self.radii, axis=1)  # area of the ellipsoid over that of the sphere
            kept = unit[(rng.random(len(unit)) < stretch / longest) & (unit[:, 1] >= self.above)]
            found.append(kept[:missing])
            missing -= len(found[-1])
        unit = np.concatenate(found)
        normals = unit / self.radii
        return unit * self.radii, normals / np.linalg.norm(normals, axis=1, keepdims=True)

    def holds(self, xyz):
        return np.linalg.norm(xyz / self.radii, axis=1) < 1 - GAP


class Ring(Solid):
    """A round bar bent around z in the plane of its x and y, from one angle to another, radians."""

    def __init__(
        self, part: int, origin, axes, *, radius: float, bar: float, start: float = 0.0, end: float = 2 * math.pi
    ) -> None:
        super().__init__(part, origin, axes)
        self.radius, self.bar, self.start, self.end = radius, bar, start, end
        self.area = (end - start) * radius * 2 * math.pi * bar

    @property
    def half_size(self):
        return np.array([self.radius + self.bar, self.radius + self.bar, self.bar])

    def draw(self, rng, count):
        found, missing = [], count
        while missing > 0:
            around = rng.uniform(0, 2 * math.pi, 2 * missing + 8)
            even = rng.random(len(around)) * (self.radius + self.bar) < self.radius + self.bar * np.cos(around)
            found.append(around[even][:missing])
            missing -= len(found[-1])
        around, turn = np.concatenate(found), rng.uniform(self.start, self.end, count)
        reach = self.radius + self.bar * np.cos(around)
        points = np.stack([reach * np.cos(turn), reach * np.sin(turn), self.bar * np.sin(around)], 1)
        normals = np.stack([np.cos(around) * np.cos(turn), np.cos(around) * np.sin(turn), np.sin(around)], 1)
        return points, normals

    def holds(self, xyz):
        middle = (self.start + self.end) / 2
        turn = np.arctan2(xyz[:, 1], xyz[:, 0]) - middle
        turn = np.abs((turn + math.pi) % (2 * math.pi) - math.pi)
        across = np.hypot(np.hypot(xyz[:, 0], xyz[:, 1]) - self.radius, xyz[:, 2])
        return (turn < (self.end - self.start) / 2) & (across < self.bar - GAP)


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
