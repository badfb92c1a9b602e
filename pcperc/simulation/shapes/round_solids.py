# SPDX-License-Identifier: Apache-2.0
"""Solids of `solids.py` that are round: tubes, balls and rings."""

from __future__ import annotations

import math

import numpy as np

from pcperc.simulation.shapes.solids import GAP, Solid


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
