# SPDX-License-Identifier: Apache-2.0
"""Shapes that are carried: bag, cap, earphone, guitar, pistol. Each builds one of many designs and proportions."""

from __future__ import annotations

import math

from pcperc.simulation.shapes.builder import Builder


def bag(b: Builder) -> None:
    """A hand bag, suitcase or round purse, with one bowed handle, two, or a straight one."""
    width, high, deep = b.vary(0.5, 0.8), b.vary(0.35, 0.6), b.vary(0.12, 0.3)
    if b.chance(0.7):
        narrow = b.vary(0.6, 1.0)
        outline = [(-width / 2, 0), (width / 2, 0), (narrow * width / 2, high), (-narrow * width / 2, high)]
        b.plate("body", outline, deep, normal="z")
    else:
        b.ball("body", (0, high / 2, 0), (width / 2, high / 2, deep / 2))
    bar, reach = b.vary(0.01, 0.022), b.vary(0.12, 0.25)
    for z in (0.0,) if b.chance(0.5) else (-0.35 * deep, 0.35 * deep):
        if b.chance(0.75):
            b.ring("handle", (0, high - 0.02, z), reach, bar, axis="z", start=0.0, end=math.pi)
        else:
            for side in (-1, 1):
                b.tube("handle", (side * reach, high - 0.02, z), (side * reach, high + 0.12, z), bar)
            b.tube("handle", (-reach, high + 0.12, z), (reach, high + 0.12, z), bar)


def cap(b: Builder) -> None:
    """A dome of panels with a peak before it, or a brim all around."""
    long, wide, high = b.vary(0.38, 0.48), b.vary(0.36, 0.42), b.vary(0.26, 0.42)
    b.ball("panel", (0, 0, 0), (long, high, wide), above=0.0)
    if b.chance(0.25):
        b.tube("peak", (0, 0.0, 0), (0, 0.012, 0), max(long, wide) + b.vary(0.12, 0.3))
        return
    reach, half, droop = b.vary(0.22, 0.4), b.vary(0.6, 0.85) * wide, b.vary(0.0, 0.35)
    steps = [(-1.0, 0.55), (-0.8, 0.85), (0.0, 1.0), (0.8, 0.85), (1.0, 0.55)]
    outline = [(half * z, long * 0.75 + reach * x) for z, x in steps]
    b.plate("peak", [(-half, 0.4 * long), *outline, (half, 0.4 * long)], 0.014, normal="y", at=0.0)
    peak = b.solids[-1]  # turned down about z, at the edge of the dome
    cos, sin = math.cos(-droop), math.sin(-droop)
    turn = [[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]
    hinge = [0.5 * long, 0.0, 0.0]
    peak.axes, peak.origin = peak.axes @ turn, (peak.origin - hinge) @ turn + hinge


def earphone(b: Builder) -> None:
    """Two shells on a headband, or plugs without one, some with a wire."""
    span = b.vary(0.3, 0.4)
    if b.chance(0.8):
        b.ring("headband", (0, 0, 0), span, b.vary(0.012, 0.03), axis="x", start=-0.1, end=math.pi + 0.1)
        turned = True
    else:
        turned = False
    radius, thick = (b.vary(0.11, 0.17), b.vary(0.05, 0.1)) if turned else (b.vary(0.05, 0.08), 0.05)
    for side in (-1, 1):
        # The ring's angles run from y over z, so that the shells hang at its two ends beside the head.
        out = side * span
        b.tube("earphone", (0, -0.06, out - side * thick), (0, -0.06, out + 0.02 * side), radius, 0.85 * radius)
        if b.chance(0.6):
            b.ball("earphone", (0, -0.06, out - side * thick), (0.9 * radius, 0.9 * radius, 0.03))
    ring = next((solid for solid in b.solids if b.parts[solid.part] == "headband"), None)
    if ring is not None:  # from +z over +y to -z
        ring.axes = ring.axes @ [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    if not turned or b.chance(0.5):
        foot = (b.vary(-0.05, 0.05), -0.55, b.vary(-0.1, 0.1))
        for side in (-1, 1) if not turned else (1,):
            b.tube("wire", (0, -0.06 - 0.8 * radius, side * span), foot, 0.008)
        b.tube("wire", foot, (foot[0], -0.75, foot[2]), 0.01)


def guitar(b: Builder) -> None:
    """Acoustic, with a waist, or electric, with horns; body, neck and head along x."""
    deep, lower, upper = b.vary(0.04, 0.11), b.vary(0.17, 0.21), b.vary(0.12, 0.16)
    half = deep / 2
    if b.chance(0.6):
        b.tube("body", (-0.3, -half, 0), (-0.3, half, 0), lower)
        b.tube("body", (-0.08, -half, 0), (-0.08, half, 0), upper)
        b.box("body", (-0.19, 0, 0), (0.16, deep, 1.5 * upper))
    else:
        b.box("body", (-0.26, 0, 0), (0.34, 0.6 * deep, 1.6 * lower))
        for side in (-1, 1):
            tip = b.vary(-0.02, 0.1)
            b.plate("body", [(side * 0.1, -0.12), (side * 0.17, -0.12), (side * 0.15, tip)], 0.6 * deep, normal="y")
    long, width = b.vary(0.34, 0.44), b.vary(0.045, 0.065)
    b.box("neck", (-0.12 + long / 2 + 0.06, 0.5 * deep, 0), (long + 0.1, 0.025, width))
    start = -0.12 + long + 0.1
    b.box("head", (start + 0.07, 0.5 * deep - 0.012, 0), (0.15, 0.02, b.vary(0.07, 0.1)), pitch=-b.vary(0.0, 0.25))
    for number in range(3):
        for side in (-1, 1):
            z = side * 0.05
            b.tube("head", (start + 0.03 + 0.04 * number, 0.5 * deep, z), (start + 0.03 + 0.04 * number, 0.5 * deep,
            1.5 * z), 0.006)  # fmt: skip


def pistol(b: Builder) -> None:
    """Self-loading with a square slide, or a revolver with a drum; a guard around the trigger."""
    long, high, wide = b.vary(0.45, 0.65), b.vary(0.09, 0.13), b.vary(0.05, 0.075)
    if b.chance(0.6):
        b.box("barrel", (0, 0, 0), (long, high, wide))
    else:
        b.tube("barrel", (-0.05, 0.02, 0), (long / 2, 0.02, 0), 0.3 * high)
        b.box("barrel", (-0.2, 0, 0), (0.25, high, 0.8 * wide))
        b.tube("barrel", (-0.2, 0, 0), (-0.06, 0, 0), 0.9 * wide)
    rake, grip = b.vary(0.1, 0.4), b.vary(0.25, 0.36)
    foot = (-long / 2 + 0.06 - 0.5 * grip * math.sin(rake), -0.5 * grip * math.cos(rake), 0)
    b.box("handle", foot, (b.vary(0.1, 0.14), grip, 0.9 * wide), pitch=-rake)
    x = -long / 2 + b.vary(0.15, 0.2)
    b.ring("trigger", (x, -high / 2 - 0.02, 0), b.vary(0.05, 0.065), 0.009, axis="z", start=math.pi, end=2 * math.pi)
    b.tube("trigger", (x, -high / 2, 0), (x + 0.01, -high / 2 - 0.05, 0), 0.008)
