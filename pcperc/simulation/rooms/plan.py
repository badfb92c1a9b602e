# SPDX-License-Identifier: Apache-2.0
"""The plan of one room: its size, its things, and the floor that they take."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pcperc.simulation.shapes.builder import Builder
from pcperc.simulation.shapes.solids import Solid


@dataclass(frozen=True)
class Thing:
    """An object of a room: its class, its colour in [0, 1] and its solids, y up."""

    name: str
    color: tuple[float, float, float]
    solids: list[Solid]


class RoomPlan:
    """Collects the things of one room, which lies around the origin.

    Args:
        rng: of this room.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.things = rng, []
        self.length, self.width = rng.uniform(4.0, 8.0), rng.uniform(3.2, 6.0)  # along x and z
        self.height = rng.uniform(2.5, 3.3)
        self.taken: list[tuple[float, float, float]] = []

    def draw_color(self, palette) -> tuple[float, float, float]:
        """Draw a colour near one of a palette."""
        base = np.array(palette[self.rng.integers(len(palette))])
        return tuple(np.clip(base * self.rng.uniform(0.85, 1.15) + self.rng.uniform(-0.03, 0.03, 3), 0.02, 0.98))

    def add(self, name: str, palette, build: Callable[[Builder], None], *, x=0.0, z=0.0, turn=0.0, parts=None) -> None:
        """Build a thing around the origin, turn it about y and put it at (x, z)."""
        builder = Builder(parts or (name,), self.rng)
        build(builder)
        cos, sin = math.cos(turn), math.sin(turn)
        rotation = np.array([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])
        for solid in builder.solids:
            solid.axes, solid.origin = solid.axes @ rotation, solid.origin @ rotation + (x, 0.0, z)
        self.things.append(Thing(name, self.draw_color(palette), builder.solids))

    def free(self, x: float, z: float, radius: float) -> bool:
        """Take a disc of the floor where it is free and inside the walls."""
        inside = abs(x) + radius < self.length / 2 and abs(z) + radius < self.width / 2
        if inside and all(math.hypot(x - a, z - b) > radius + r for a, b, r in self.taken):
            self.taken.append((x, z, radius))
            return True
        return False
