# SPDX-License-Identifier: Apache-2.0
"""What a room is filled with: floor, ceiling and walls, what hangs on them, furniture and clutter."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pcperc.simulation.rooms.plan import RoomPlan
from pcperc.simulation.shapes import furniture
from pcperc.simulation.shapes.builder import Builder

CHAIR_PARTS = ("back", "seat", "leg", "arm")
SHELL = 0.1  # metres that floor, ceiling and walls are thick, outside of the room
PALE = ((0.85, 0.83, 0.78), (0.75, 0.78, 0.80), (0.88, 0.86, 0.84), (0.70, 0.66, 0.60))
STRONG = (
    *((0.45, 0.30, 0.18), (0.62, 0.46, 0.30), (0.16, 0.16, 0.18), (0.55, 0.15, 0.12), (0.15, 0.25, 0.45)),
    *((0.20, 0.38, 0.22), (0.60, 0.60, 0.62), (0.72, 0.60, 0.25)),
)


def shell(plan: RoomPlan) -> None:
    """Floor, ceiling, four walls; at times a beam below the ceiling and columns in corners."""
    x, y, z = plan.length, plan.height, plan.width
    plan.add("floor", (*STRONG, *PALE), lambda b: b.box("floor", (0, -SHELL / 2, 0), (x, SHELL, z)))
    plan.add("ceiling", PALE, lambda b: b.box("ceiling", (0, y + SHELL / 2, 0), (x, SHELL, z)))
    for side in (-1, 1):
        middle = side * (x + SHELL) / 2
        plan.add("wall", PALE, lambda b, at=middle: b.box("wall", (at, y / 2, 0), (SHELL, y, z)))
        middle = side * (z + SHELL) / 2
        plan.add("wall", PALE, lambda b, at=middle: b.box("wall", (0, y / 2, at), (x, y, SHELL)))
    if plan.rng.random() < 0.6:
        at, deep = plan.rng.uniform(-0.3, 0.3) * x, plan.rng.uniform(0.2, 0.4)
        plan.add("beam", PALE, lambda b: b.box("beam", (at, y - deep / 2, 0), (0.3, deep, z)))
    for corner in range(int(plan.rng.integers(0, 3))):
        sx, sz = (1, 1) if corner else (-1, -1)
        place, half = (sx * (x / 2 - 0.2), sz * (z / 2 - 0.2)), plan.rng.uniform(0.15, 0.2)
        plan.taken.append((*place, 0.35))
        plan.add("column", PALE, lambda b, p=place, h=half: b.box("column", (p[0], y / 2, p[1]), (2 * h, y, 2 * h)))


def on_walls(plan: RoomPlan) -> None:
    """A door, windows and boards, one after the other along the walls."""
    rng, y = plan.rng, plan.height
    names = ["door", *["window"] * int(rng.integers(1, 4)), *["board"] * int(rng.integers(1, 3))]
    sizes = {"door": (0.9, 2.05), "window": (1.2, 1.1), "board": (1.6, 1.0)}
    rooms_left = [plan.length, plan.width, plan.length, plan.width]  # of the walls at -z, +x, +z, -x
    for name in names:
        wide, high = np.array(sizes[name]) * rng.uniform(0.85, 1.15, 2)
        fitting = [wall for wall in range(4) if rooms_left[wall] > wide + 0.6]
        if not fitting:
            continue
        wall = int(rng.choice(fitting))
        whole = (plan.length, plan.width)[wall % 2]
        along = rooms_left[wall] - whole / 2 - wide / 2 - 0.25  # from the far end of the wall backwards
        rooms_left[wall] -= wide + 0.3
        bottom = 0.0 if name == "door" else min(rng.uniform(0.8, 1.1), y - high - 0.1)
        deep = plan.width / 2 if wall % 2 == 0 else plan.length / 2
        thick = rng.uniform(0.03, 0.06)

        def build(b, name=name, along=along, wide=wide, high=high, bottom=bottom, deep=deep, thick=thick):
            b.box(name, (along, bottom + high / 2, -deep + thick / 2), (wide, high, thick))

        plan.add(name, STRONG if name == "door" else PALE, build, turn=-wall * math.pi / 2)
        if name == "door":  # nothing stands before it
            cos, sin = math.cos(-wall * math.pi / 2), math.sin(-wall * math.pi / 2)
            plan.taken.append((along * cos - deep * sin, -along * sin - deep * cos, 0.8))


def at_walls(plan: RoomPlan) -> None:
    """Bookcases and a sofa with their backs to the walls."""
    rng = plan.rng
    for name in [*["bookcase"] * int(rng.integers(1, 4)), *["sofa"] * int(rng.integers(0, 3))]:
        wide, deep = (rng.uniform(0.8, 1.3), 0.35) if name == "bookcase" else (rng.uniform(1.3, 1.9), 0.85)
        for _ in range(12):
            wall = int(rng.integers(4))
            reach = (plan.width if wall % 2 == 0 else plan.length) / 2 - deep / 2 - 0.03
            room = (plan.length if wall % 2 == 0 else plan.width) / 2 - wide / 2 - 0.05
            along, turn = rng.uniform(-room, room), -wall * math.pi / 2
            cos, sin = math.cos(turn), math.sin(turn)
            x, z = along * cos - reach * sin, -along * sin - reach * cos
            gap = 0.55 * wide
            if all(math.hypot(x - a, z - b) > gap + r for a, b, r in plan.taken):
                plan.taken.append((x, z, gap))
                plan.add(name, STRONG, {"bookcase": bookcase, "sofa": sofa}[name](wide, deep), x=x, z=z, turn=turn)
                break


def bookcase(wide: float, deep: float) -> Callable[[Builder], None]:
    """Sides, a back and shelves; it looks along +z."""

    def build(b: Builder) -> None:
        high = b.vary(1.2, 2.1)
        for side in (-1, 1):
            b.box("bookcase", (side * (wide / 2 - 0.015), high / 2, 0), (0.03, high, deep))
        b.box("bookcase", (0, high / 2, -deep / 2 + 0.01), (wide - 0.06, high, 0.02))
        for shelf in range(int(b.rng.integers(3, 7))):
            b.box("bookcase", (0, 0.03 + shelf * high / 6.2, 0), (wide - 0.06, 0.03, deep - 0.02))

    return build


def sofa(wide: float, deep: float) -> Callable[[Builder], None]:
    """A seat, a back and two arms; it looks along +z."""

    def build(b: Builder) -> None:
        seat, back = b.vary(0.36, 0.46), b.vary(0.7, 0.95)
        b.box("sofa", (0, seat / 2, 0), (wide, seat, deep))
        b.box("sofa", (0, back / 2, -deep / 2 + 0.1), (wide, back, 0.2))
        for side in (-1, 1):
            b.box("sofa", (side * (wide / 2 - 0.08), (seat + 0.2) / 2, 0), (0.16, seat + 0.2, deep))

    return build


def in_the_middle(plan: RoomPlan) -> None:
    """Tables with chairs around and things on them, single chairs, and things on the floor."""
    rng = plan.rng
    for _ in range(int(rng.integers(1, 4))):
        long, deep, high = rng.uniform(1.0, 1.9), rng.uniform(0.6, 0.95), rng.uniform(0.68, 0.78)
        radius = 0.5 * math.hypot(long, deep) + 0.25
        places = (rng.uniform(-0.5, 0.5, (8, 2)) * (plan.length - 2.0, plan.width - 2.0)).tolist()
        found = next((place for place in places if plan.free(*place, radius)), None)
        if found is None:
            continue
        x, z = found
        turn = float(rng.choice((0.0, math.pi / 2))) + rng.normal(0, 0.06)
        plan.add("table", STRONG, _table(long, deep, high), x=x, z=z, turn=turn)
        cos, sin = math.cos(turn), math.sin(turn)
        for side in (-1, 1):
            for along in (-0.25, 0.25) if long > 1.4 else (0.0,):
                if rng.random() < 0.75:
                    a, b = along * long, side * (deep / 2 + 0.12)
                    place = {"x": x + a * cos + b * sin, "z": z - a * sin + b * cos}
                    _chair(plan, **place, turn=turn + side * math.pi / 2 + rng.normal(0, 0.2))
        for _ in range(int(rng.integers(1, 5))):
            a, b = rng.uniform(-0.4, 0.4) * long, rng.uniform(-0.35, 0.35) * deep
            _clutter(plan, x + a * cos + b * sin, high, z - a * sin + b * cos, 0.22)
    for _ in range(int(rng.integers(0, 4))):
        x, z = (rng.uniform(-0.42, 0.42) * extent for extent in (plan.length, plan.width))
        if plan.free(x, z, 0.4):
            _chair(plan, x=x, z=z, turn=rng.uniform(-3, 3))
    for _ in range(int(rng.integers(2, 6))):
        x, z = (rng.uniform(-0.46, 0.46) * extent for extent in (plan.length, plan.width))
        if plan.free(x, z, 0.25):
            _clutter(plan, x, 0.0, z, 0.5)


def _table(long: float, deep: float, high: float) -> Callable[[Builder], None]:
    def build(b: Builder) -> None:
        thick, bar = b.vary(0.02, 0.05), b.vary(0.02, 0.035)
        b.box("table", (0, high - thick / 2, 0), (long, thick, deep))
        for sx in (-1, 1):
            for sz in (-1, 1):
                x, z = sx * (long / 2 - 0.06), sz * (deep / 2 - 0.06)
                b.tube("table", (x, 0, z), (x, high - thick, z), bar)

    return build


def _chair(plan: RoomPlan, *, x: float, z: float, turn: float) -> None:
    """A chair of the part simulator, whose parts together are one thing."""
    plan.add("chair", STRONG, furniture.chair, x=x, z=z, turn=turn, parts=CHAIR_PARTS)


def _clutter(plan: RoomPlan, x: float, bottom: float, z: float, size: float) -> None:
    """A box, a ball or a bottle."""

    def build(b: Builder) -> None:
        wide, high, deep = (b.vary(0.3, 1.0) * size for _ in range(3))
        kind = int(b.rng.integers(3))
        if kind == 0:
            b.box("clutter", (0, bottom + high / 2, 0), (wide, high, deep))
        elif kind == 1:
            b.ball("clutter", (0, bottom + high / 2, 0), (wide / 2, high / 2, wide / 2))
        else:
            b.tube("clutter", (0, bottom, 0), (0, bottom + high, 0), wide / 2, 0.6 * wide / 2)

    plan.add("clutter", STRONG, build, x=x, z=z, turn=float(plan.rng.uniform(-3, 3)))
