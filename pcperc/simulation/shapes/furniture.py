# SPDX-License-Identifier: Apache-2.0
"""Shapes of a home: chair, table, lamp, laptop, mug, knife. Each builds one of many designs and proportions."""

from __future__ import annotations

import math

from pcperc.simulation.shapes.builder import Builder


def chair(b: Builder) -> None:
    """Four legs, a swivel foot or sled runners; a closed or slatted back; with or without arms."""
    seat, width, depth, thick = b.vary(0.38, 0.48), b.vary(0.38, 0.5), b.vary(0.36, 0.48), b.vary(0.03, 0.1)
    b.box("seat", (0, seat, 0), (depth, thick, width))
    lean, high = b.vary(0.0, 0.25), b.vary(0.35, 0.6)
    foot, edge = seat + thick / 2, -depth / 2 + 0.02
    middle = (edge - 0.5 * high * math.sin(lean), foot + 0.5 * high * math.cos(lean), 0)
    if b.chance(0.6):
        b.box("back", middle, (0.04, high, width * b.vary(0.85, 1.0)), pitch=lean)
    else:
        for side in range(int(b.rng.integers(3, 6))):
            z = width * (side / 4 - 0.45)
            b.box("back", (middle[0], middle[1], z), (0.03, high, 0.03), pitch=lean)
        top = (edge - high * math.sin(lean), foot + high * math.cos(lean), 0)
        b.box("back", top, (0.04, 0.08, width), pitch=lean)
    low, style = seat - thick / 2, int(b.rng.integers(3))
    bar = b.vary(0.012, 0.025)
    corners = [(sx * (depth / 2 - 0.04), sz * (width / 2 - 0.04)) for sx in (-1, 1) for sz in (-1, 1)]
    if style == 0:
        splay = b.vary(1.0, 1.25)
        for x, z in corners:
            b.tube("leg", (splay * x, 0, splay * z), (x, low, z), bar)
    elif style == 1:
        b.tube("leg", (0, 0.06, 0), (0, low, 0), 1.4 * bar)
        for number in range(5):
            turn = 2 * math.pi * number / 5
            b.tube("leg", (0.26 * math.cos(turn), 0.03, 0.26 * math.sin(turn)), (0, 0.07, 0), bar)
    else:
        for side in (-1, 1):
            z = side * (width / 2 - 0.03)
            b.tube("leg", (-depth / 2, 0.02, z), (depth / 2, 0.02, z), bar)
            for x in (-depth / 2 + 0.05, depth / 2 - 0.05):
                b.tube("leg", (x, 0.02, z), (x, low, z), bar)
    if b.chance(0.5):
        rise = b.vary(0.16, 0.24)
        for side in (-1, 1):
            z = side * (width / 2 + 0.01)
            b.box("arm", (0.0, foot + rise, z), (0.85 * depth, 0.03, 0.05))
            b.tube("arm", (0.3 * depth, seat, z), (0.3 * depth, foot + rise, z), bar)


def table(b: Builder) -> None:
    """A round or square top on legs, a column or side walls; some with a drawer or a rail below."""
    high, thick, round_top = b.vary(0.3, 0.6), b.vary(0.02, 0.06), b.chance(0.3)
    width, depth = b.vary(0.6, 1.1), b.vary(0.4, 0.7)
    if round_top:
        depth = width
        b.tube("top", (0, high, 0), (0, high + thick, 0), width / 2)
    else:
        b.box("top", (0, high + thick / 2, 0), (depth, thick, width))
    inset, bar = 0.35 if round_top else 0.46, b.vary(0.015, 0.035)
    style = int(b.rng.integers(3))
    if style == 1:
        b.tube("leg", (0, 0, 0), (0, high, 0), 1.6 * bar)
        b.tube("leg", (0, 0, 0), (0, 0.03, 0), 0.3 * depth)
    elif style == 2 and not round_top:
        for side in (-1, 1):
            b.box("leg", (0, high / 2, side * inset * width), (0.85 * depth, high, 0.03))
    else:
        for sx in (-1, 1):
            for sz in (-1, 1):
                x, z = sx * inset * depth, sz * inset * width
                b.box("leg", (x, high / 2, z), (1.6 * bar, high, 1.6 * bar))
    extra = int(b.rng.integers(3))
    if extra == 1 and not round_top:
        b.box("support", (0, high - 0.06, 0.2 * width), (0.8 * depth, 0.12, 0.35 * width))
    elif extra == 2 and not round_top:
        b.box("support", (0, b.vary(0.25, 0.5) * high, 0), (0.7 * depth, 0.02, 0.9 * width))


def lamp(b: Builder) -> None:
    """Standing, on a table with an arm of two pieces, or hanging from a canopy."""
    style = int(b.rng.integers(3))
    low, high, tall = b.vary(0.12, 0.2), b.vary(0.05, 0.12), b.vary(0.14, 0.25)
    if style == 2:  # hangs
        cord = b.vary(0.2, 0.5)
        b.tube("canopy", (0, 0.02, 0), (0, 0.06, 0), b.vary(0.06, 0.1), 0.05)
        b.tube("stem", (0, -cord, 0), (0, 0.02, 0), b.vary(0.006, 0.012))
        if b.chance(0.5):
            b.tube("shade", (0, -cord - tall, 0), (0, -cord, 0), low, high, closed=False)
        else:
            b.ball("shade", (0, -cord - 0.1, 0), (low, 0.12, low), above=-0.8)
        return
    foot, stem = b.vary(0.1, 0.18), b.vary(0.012, 0.03)
    if b.chance(0.6):
        b.tube("base", (0, 0, 0), (0, 0.03, 0), foot, 0.9 * foot)
    else:
        b.box("base", (0, 0.015, 0), (1.6 * foot, 0.03, 1.6 * foot))
    if style == 0:
        height = b.vary(0.35, 0.8)
        b.tube("stem", (0, 0.03, 0), (0, height + 0.5 * tall, 0), stem)
        b.tube("shade", (0, height, 0), (0, height + tall, 0), low, high, closed=False)
    else:
        elbow, head = (-b.vary(0.05, 0.2), b.vary(0.25, 0.4), 0), (b.vary(0.1, 0.3), b.vary(0.4, 0.6), 0)
        b.tube("stem", (0, 0.03, 0), elbow, 0.7 * stem)
        b.tube("stem", elbow, head, 0.7 * stem)
        end = (head[0] + 0.12, head[1] - 0.1, 0)
        b.tube("shade", head, end, 0.03, 0.6 * low, closed=False)


def laptop(b: Builder) -> None:
    """Two thin halves that are open by a right angle or more."""
    width, depth, thick = b.vary(0.55, 0.7), b.vary(0.38, 0.5), b.vary(0.015, 0.03)
    b.box("keyboard", (0, thick / 2, 0), (depth, thick, width))
    lean = b.vary(0.0, 0.6)
    tall = depth * b.vary(0.9, 1.0)
    middle = (-depth / 2 - 0.5 * tall * math.sin(lean), thick + 0.5 * tall * math.cos(lean), 0)
    b.box("screen", middle, (0.7 * thick, tall, width * b.vary(0.97, 1.0)), pitch=lean)


def mug(b: Builder) -> None:
    """An open cup, straight or tapered, with a round or a square handle."""
    low, high, tall = b.vary(0.2, 0.3), b.vary(0.24, 0.34), b.vary(0.45, 0.75)
    b.tube("cup", (0, 0, 0), (0, tall, 0), low, high, closed=False)
    b.tube("cup", (0, 0, 0), (0, tall, 0), 0.92 * low, 0.92 * high, closed=False)
    b.tube("cup", (0, 0, 0), (0, 0.02, 0), low)
    middle, bar, side = b.vary(0.4, 0.6) * tall, b.vary(0.02, 0.04), 0.5 * (low + high) - 0.01
    if b.chance(0.6):
        b.ring("handle", (side, middle, 0), b.vary(0.13, 0.2), bar, axis="z", start=-math.pi / 2, end=math.pi / 2)
    else:
        out, half = side + b.vary(0.12, 0.2), b.vary(0.12, 0.18)
        for y in (middle - half, middle + half):
            b.tube("handle", (side, y, 0), (out, y, 0), bar)
        b.tube("handle", (out, middle - half - bar, 0), (out, middle + half + bar, 0), bar)


def knife(b: Builder) -> None:
    """A blade with a straight, dropped or rising back, and a handle with or without a guard."""
    blade, high, thick = b.vary(0.45, 0.7), b.vary(0.05, 0.11), b.vary(0.006, 0.014)
    tip = b.vary(0.0, 1.0) * high
    b.plate("blade", [(0, 0), (0.85 * blade, 0), (blade, tip), (0.75 * blade, high), (0, high)], thick, normal="z")
    grip, across = b.vary(0.25, 0.4), b.vary(0.02, 0.035)
    if b.chance(0.5):
        b.plate("handle", [(0, 0), (0, high), (-grip, 0.9 * high), (-grip, -0.02)], across, normal="z")
    else:
        b.tube("handle", (-grip, high / 2, 0), (0.01, high / 2, 0), 0.6 * across, 0.75 * across)
    if b.chance(0.4):
        b.box("handle", (0, high / 2, 0), (0.025, 1.7 * high, 1.6 * across))
