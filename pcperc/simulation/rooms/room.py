# SPDX-License-Identifier: Apache-2.0
"""One room, as scanners inside it see it: a plan is furnished, and points are drawn on what is not hidden."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pcperc.simulation.rooms.furnishing import at_walls, in_the_middle, on_walls, shell
from pcperc.simulation.rooms.plan import RoomPlan, Thing
from pcperc.simulation.shapes.solids import surface_points

RANGE_NOISE = 0.004  # metres


@dataclass(frozen=True)
class RoomCloud:
    """A room: xyz (N, 3) float64 in metres, z up, rgb (N, 3) int64 of 0 to 255, and of each point the thing, (N,)
    int64, whose class is ``names[thing]``."""

    xyz: np.ndarray
    rgb: np.ndarray
    thing: np.ndarray
    names: list[str]


def make_room(rng: np.random.Generator, *, density: float) -> RoomCloud:
    """Draw a room and the points that scanners inside it would see, ``density`` a square metre.

    What stands before a wall or on the floor takes the points behind and below it; nothing else casts a shadow.
    """
    plan = RoomPlan(rng)
    shell(plan)
    on_walls(plan)
    at_walls(plan)
    in_the_middle(plan)
    xyz, rgb, numbers = [], [], []
    limits = np.array([plan.length / 2, plan.height, plan.width / 2])
    for number, thing in enumerate(plan.things):
        area = sum(solid.area for solid in thing.solids)
        points, _, _ = surface_points(thing.solids, max(int(density * area), 30), rng)
        inside = (np.abs(points) <= limits + 1e-6).all(1) & (points[:, 1] >= -1e-6)
        points = points[inside & ~_hidden(points, thing, plan.things)]
        shade = 1 + 0.06 * rng.standard_normal((len(points), 1)) + 0.02 * rng.standard_normal((len(points), 3))
        xyz.append(points + RANGE_NOISE * rng.standard_normal(points.shape))
        rgb.append(np.clip(np.rint(255 * np.array(thing.color) * shade), 0, 255).astype(np.int64))
        numbers.append(np.full(len(points), number))
    places = np.concatenate(xyz)[:, [0, 2, 1]] * (1.0, -1.0, 1.0)  # from y up to z up
    places -= places.min(0)
    return RoomCloud(places, np.concatenate(rgb), np.concatenate(numbers), [thing.name for thing in plan.things])


def _hidden(points: np.ndarray, own: Thing, things: list[Thing]) -> np.ndarray:
    """Return (N,) bool: which points are inside a solid of another thing; solids that are far away are not asked."""
    hidden = np.zeros(len(points), bool)
    for thing in things:
        if thing is own:
            continue
        for solid in thing.solids:
            near = (np.abs(points - solid.middle) <= solid.reach + 0.01).all(1)
            if near.any():
                hidden[near] |= solid.hides(points[near])
    return hidden
