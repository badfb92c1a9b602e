# SPDX-License-Identifier: Apache-2.0
"""Puts solids together to a shape, part by part. The world's x is forward, y up, z to the right, as in ShapeNet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pcperc.simulation.shapes.round_solids import Ball, Ring, Tube
from pcperc.simulation.shapes.solids import Prism, Solid, frame_along

AXES = {"x": (0, 1, 2), "y": (1, 2, 0), "z": (2, 0, 1)}


class Builder:
    """Collects the solids of one shape.

    Args:
        parts: names of the category's parts, in the order of their numbers.
        rng: of this shape.
    """

    def __init__(self, parts: Sequence[str], rng: np.random.Generator) -> None:
        self.parts, self.rng, self.solids = list(parts), rng, []

    def vary(self, low: float, high: float) -> float:
        """Draw a number."""
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        """Draw whether something is."""
        return bool(self.rng.random() < share)

    def box(self, part: str, centre, size, *, pitch: float = 0.0) -> None:
        """A box of ``size`` (x, y, z); ``pitch`` turns it about z, radians."""
        x, y = size[0] / 2, size[1] / 2
        turned = np.array([[math.cos(pitch), math.sin(pitch), 0], [-math.sin(pitch), math.cos(pitch), 0], [0, 0, 1]])
        polygon = [(-x, -y), (x, -y), (x, y), (-x, y)]
        self._add(Prism(self.parts.index(part), centre, turned, polygon=polygon, thickness=size[2]))

    def plate(self, part: str, polygon, thickness: float, *, normal: str, at: float = 0.0) -> None:
        """A convex polygon in a plane of the world, ``at`` along its normal: of (y, z) for "x", (z, x) "y", (x, y)
        "z"."""
        order = AXES[normal]
        axes = np.eye(3)[[order[1], order[2], order[0]]]
        origin = np.zeros(3)
        origin[order[0]] = at
        polygon = np.asarray(polygon, np.float64)
        turn = np.roll(polygon, -1, axis=0)
        if (polygon[:, 0] * turn[:, 1] - polygon[:, 1] * turn[:, 0]).sum() < 0:
            polygon = polygon[::-1]
        self._add(Prism(self.parts.index(part), origin, axes, polygon=polygon, thickness=thickness))

    def tube(self, part: str, start, end, low: float, high: float | None = None, *, closed: bool = True) -> None:
        """A round tube between two places."""
        along = np.subtract(end, start)
        high, length = low if high is None else high, float(np.linalg.norm(along))
        axes = frame_along(along)
        self._add(Tube(self.parts.index(part), start, axes, length=length, low=low, high=high, closed=closed))

    def ball(self, part: str, centre, radii, *, above: float = -1.0, pitch: float = 0.0) -> None:
        """An ellipsoid, or its open dome above a height, -1 to 1; ``pitch`` turns it about z."""
        turned = np.array([[math.cos(pitch), math.sin(pitch), 0], [-math.sin(pitch), math.cos(pitch), 0], [0, 0, 1]])
        self._add(Ball(self.parts.index(part), centre, turned, radii=radii, above=above))

    def ring(self, part: str, centre, radius: float, bar: float, *, axis: str, start: float = 0.0, end: float = 6.2832):
        """A bent bar around an axis of the world; angles run from the next axis (x after z, y after x, z after y)."""
        order = AXES[axis]
        axes = np.eye(3)[[order[1], order[2], order[0]]]
        self._add(Ring(self.parts.index(part), centre, axes, radius=radius, bar=bar, start=start, end=end))

    def wheel(self, part: str, centre, radius: float, width: float) -> None:
        """A disc whose axle runs along z."""
        half = np.array([0.0, 0.0, width / 2])
        self.tube(part, np.subtract(centre, half), np.add(centre, half), radius)

    def _add(self, solid: Solid) -> None:
        self.solids.append(solid)
