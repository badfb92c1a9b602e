# SPDX-License-Identifier: Apache-2.0
"""Shapes that move: airplane, car, motorbike, rocket, skateboard. Each builds one of many designs and proportions."""

from __future__ import annotations

import math

from pcperc.simulation.shapes.builder import Builder


def airplane(b: Builder) -> None:
    """A fuselage with swept or straight wings, tail planes, and jets or propellers, or none."""
    radius, sweep, span = b.vary(0.05, 0.09), b.vary(0.0, 0.35), b.vary(0.4, 0.7)
    b.ball("body", (0, 0, 0), (0.55, radius, radius))
    if b.chance(0.7):
        b.tube("body", (-0.35, 0, 0), (0.3, 0, 0), 0.85 * radius, 0.95 * radius)
    root, tip, x, y = b.vary(0.18, 0.3), b.vary(0.04, 0.14), b.vary(0.0, 0.15), b.vary(-0.6, 0.7) * radius
    for side in (-1, 1):
        wing = [(0, x), (0, x - root), (side * span, x - sweep - tip), (side * span, x - sweep)]
        b.plate("wing", wing, 0.018, normal="y", at=y)
        reach, back = 0.35 * span, b.vary(0.05, 0.12) if side < 0 else 0.08
        tail = [(0, -0.42), (0, -0.54), (side * reach, -0.54 - back), (side * reach, -0.47 - back)]
        b.plate("tail", tail, 0.014, normal="y", at=0.4 * radius)
    high = b.vary(0.14, 0.24)
    b.plate("tail", [(-0.38, radius / 2), (-0.54, radius / 2), (-0.60, high), (-0.52, high)], 0.014, normal="z")
    engines = int(b.rng.integers(0, 3))
    for number in range(engines):
        for side in (-1, 1):
            out = side * span * (0.32 + 0.25 * number)
            nose, size = x - sweep * abs(out) / span + 0.03, b.vary(0.02, 0.035)
            b.tube("engine", (nose - 0.16, y - 0.04, out), (nose, y - 0.04, out), 0.8 * size, size)


def car(b: Builder) -> None:
    """Saloon, estate, sports car or van."""
    style = int(b.rng.integers(4))
    length, width = b.vary(0.9, 1.05), b.vary(0.36, 0.44)
    belt = (0.2, 0.21, 0.16, 0.26)[style] * b.vary(0.92, 1.08)
    top = belt + (0.13, 0.14, 0.09, 0.2)[style] * b.vary(0.9, 1.1)
    nose, back = 0.5 * length, -0.5 * length
    hood_end = (0.2, 0.22, 0.12, 0.36)[style] * length
    cabin_end = (-0.28, -0.47, -0.3, -0.48)[style] * length
    low, thin = 0.06, 0.022
    body = [(back, low), (nose, low), (nose, 0.7 * belt), (hood_end, belt - thin), (back, belt)]
    b.plate("body", body, width, normal="z")
    hood = [(hood_end, belt - thin), (nose, 0.7 * belt), (nose, 0.7 * belt + thin), (hood_end, belt)]
    b.plate("hood", hood, 0.96 * width, normal="z")
    front, rear = hood_end - b.vary(0.08, 0.14), cabin_end + (0.1, 0.03, 0.14, 0.02)[style]
    glass = [(hood_end, belt), (cabin_end, belt), (rear, top - thin), (front, top - thin)]
    b.plate("body", glass, 0.88 * width, normal="z")
    roof = [(front, top - thin), (rear, top - thin), (rear, top), (front, top)]
    b.plate("roof", roof, 0.84 * width, normal="z")
    radius = b.vary(0.075, 0.095)
    for x in (0.31 * length, -0.3 * length):
        for side in (-1, 1):
            b.wheel("wheel", (x, radius, side * (width / 2 - 0.01)), radius, 0.07)


def motorbike(b: Builder) -> None:
    """Motorcycle or scooter, some with a box behind."""
    radius, base = b.vary(0.15, 0.19), b.vary(0.3, 0.36)
    for x in (-base, base):
        if b.chance(0.5):
            b.wheel("wheel", (x, radius, 0), radius, b.vary(0.05, 0.09))
        else:
            b.ring("wheel", (x, radius, 0), radius - 0.035, 0.035, axis="z")
            b.tube("wheel", (x, radius, -0.03), (x, radius, 0.03), 0.05)
    seat = b.vary(0.36, 0.42)
    b.box("frame", (0, 0.24, 0), (0.34, 0.18, b.vary(0.1, 0.16)))
    b.tube("frame", (-base, radius, 0), (-0.1, 0.3, 0), 0.02)
    for side in (-1, 1):
        b.tube("frame", (base, radius, side * 0.04), (0.19, 0.48, side * 0.04), 0.014)
        if b.chance(0.7):
            b.tube("frame", (-base - 0.05, 0.2, side * 0.1), (0.05, 0.15, side * 0.1), 0.028)
    b.ball("tank", (0.1, seat + 0.04, 0), (b.vary(0.11, 0.15), 0.07, 0.08))
    b.box("seat", (-0.14, seat, 0), (b.vary(0.24, 0.34), 0.05, 0.12), pitch=b.vary(-0.15, 0.0))
    grip, bar = b.vary(0.14, 0.22), b.vary(0.5, 0.58)
    for side in (-1, 1):
        b.tube("handlebar", (0.19, 0.47, 0), (0.13, bar, side * grip), 0.013)
        if b.chance(0.6):
            b.tube("handlebar", (0.14, bar, side * grip), (0.13, bar + 0.08, side * grip), 0.008)
    b.ball("light", (0.26, 0.47, 0), (0.05, 0.055, 0.055))


def rocket(b: Builder) -> None:
    """A body with a pointed nose and three to six fins, some with nozzles."""
    radius, foot = b.vary(0.05, 0.11), 0.0
    length, nose = b.vary(0.5, 0.75), b.vary(0.12, 0.3)
    b.tube("body", (0, foot, 0), (0, length, 0), radius * b.vary(0.9, 1.15), radius)
    if b.chance(0.5):
        b.tube("nose", (0, length, 0), (0, length + nose, 0), radius, 0.005)
    else:
        b.ball("nose", (0, length, 0), (radius, nose, radius), above=0.0)
    if b.chance(0.4):
        b.tube("body", (0, -0.08, 0), (0, foot, 0), 0.7 * radius, 0.4 * radius)
    fins, reach, low, high = int(b.rng.integers(3, 7)), b.vary(0.08, 0.18), b.vary(-0.08, 0.02), b.vary(0.12, 0.25)
    for number in range(fins):
        turn = 2 * math.pi * number / fins
        _fin(b, turn, 0.8 * radius, radius + reach, low, high)


def _fin(b: Builder, turn: float, inner: float, outer: float, low: float, high: float) -> None:
    """A thin fin that stands out from the body; made flat in a vertical plane, then turned about y."""
    b.plate("fin", [(inner, 0.03), (outer, low), (outer, low + 0.45 * high), (inner, high)], 0.014, normal="z")
    cos, sin = math.cos(turn), math.sin(turn)
    fin = b.solids[-1]
    fin.axes = fin.axes @ [[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]]


def skateboard(b: Builder) -> None:
    """A deck with raised ends, two trucks and four wheels; the truck at times hidden under a board without one."""
    length, width, thick = b.vary(0.7, 0.8), b.vary(0.19, 0.26), b.vary(0.012, 0.024)
    rise, end = b.vary(0.0, 0.5), b.vary(0.12, 0.18)
    b.box("deck", (0, 0.1, 0), (length, thick, width))
    for side in (-1, 1):
        middle = (side * (length / 2 + 0.5 * end * math.cos(rise)), 0.1 + 0.5 * end * math.sin(rise), 0)
        b.box("deck", middle, (end, thick, width), pitch=side * rise)
        b.tube("deck", _ends(middle, side, end, rise), _above(middle, side, end, rise, thick), width / 2)
    radius, axle = b.vary(0.025, 0.036), b.vary(0.26, 0.32)
    for x in (-axle, axle):
        b.tube("truck", (x, 0.035, -0.36 * width), (x, 0.035, 0.36 * width), 0.013)
        b.box("truck", (x, 0.065, 0), (0.06, 0.06, 0.3 * width))
        for side in (-1, 1):
            b.wheel("wheel", (x, 0.035, side * 0.4 * width), radius, 0.035)


def _ends(middle, side: int, end: float, rise: float) -> tuple[float, float, float]:
    """The place at the tip of a raised end, a little below its middle plane."""
    return (middle[0] + side * 0.5 * end * math.cos(rise), middle[1] + 0.5 * end * math.sin(rise) - 0.006, 0.0)


def _above(middle, side: int, end: float, rise: float, thick: float) -> tuple[float, float, float]:
    """The place over `_ends`, across the thickness of the deck."""
    x, y, _ = _ends(middle, side, end, rise)
    return (x - side * thick * math.sin(rise), y + thick * math.cos(rise), 0.0)
