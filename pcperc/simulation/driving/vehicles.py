# SPDX-License-Identifier: Apache-2.0
"""Vehicles as a few boxes and wheels each. Every function returns a shape around its own origin on the ground."""

from __future__ import annotations

import numpy as np

from pcperc.simulation.driving.shapes import (
    CABIN,
    FACADE,
    GLASS,
    LAMP,
    MATTE,
    PAINT,
    STRIPES,
    WINDOW_BAND,
    Primitives,
    Shape,
)

DARK, STEEL, GLAZING = (0.03, 0.03, 0.035), (0.32, 0.33, 0.35), (0.03, 0.045, 0.06)
RED, WHITE, AMBER = (0.75, 0.03, 0.02), (0.95, 0.93, 0.85), (0.9, 0.35, 0.02)
SAFETY_YELLOW, SAFETY_ORANGE = (0.80, 0.46, 0.02), (0.85, 0.22, 0.02)
CAR_COLOURS = (
    (0.70, 0.70, 0.72), (0.30, 0.31, 0.33), (0.03, 0.03, 0.035), (0.80, 0.80, 0.78), (0.35, 0.02, 0.02),
    (0.03, 0.08, 0.30), (0.10, 0.20, 0.12), (0.45, 0.36, 0.22), (0.08, 0.22, 0.40), (0.55, 0.10, 0.03),
)  # fmt: skip


def paint(rng: np.random.Generator, palette=CAR_COLOURS):
    """Draw a colour near one of a palette."""
    base = np.array(palette[rng.integers(len(palette))])
    return tuple(np.clip(base * rng.uniform(0.75, 1.25) + rng.uniform(-0.015, 0.015, 3), 0.01, 0.95))


def lamps(shape: Shape, length: float, width: float, z: float, size: float = 0.22) -> None:
    """White lamps in front, red ones behind, flush with the ends of the body."""
    for side in (-1, 1):
        y = side * (width / 2 - size * 0.8)
        shape.box(length / 2 - 0.02, y, z, 0.04, size * 1.5, size * 0.6, WHITE, material=LAMP)
        shape.box(-length / 2 + 0.02, y, z, 0.04, size * 1.2, size * 0.8, RED, material=LAMP)


def wheels(shape: Shape, positions, width: float, radius: float, thick: float) -> None:
    """A pair of wheels at every x of ``positions``."""
    for x in positions:
        for side in (-1, 1):
            shape.wheel(x, side * (width / 2 - thick / 2), radius, thick)


def car(rng: np.random.Generator) -> Primitives:
    """Saloon, hatchback, estate or sport utility."""
    shape, colour, style = Shape(rng), paint(rng), int(rng.integers(4))
    length = rng.normal((4.75, 4.1, 4.7, 4.8)[style], 0.15)
    width, height = rng.normal(1.88, 0.06), rng.normal((1.47, 1.52, 1.55, 1.78)[style], 0.05)
    sill, belt = 0.16 * height, (0.60 + 0.02 * rng.standard_normal()) * height
    radius = 0.21 * height if style < 3 else 0.215 * height
    shape.box(0, 0, sill, length, width, belt - sill, colour, material=PAINT, lean=(0.12, 0.08, 0.06))
    front = 0.20 * length
    rear = -(0.36, 0.47, 0.48, 0.48)[style] * length
    rise = height - belt
    lean_front, lean_rear = 0.95, (1.0, 0.35, 0.25, 0.2)[style]
    shape.box(
        (front + rear) / 2, 0, belt, front - rear, width * 0.92, rise, GLAZING,
        material=CABIN, accent=colour, lean=(lean_front, lean_rear, 0.22),
    )  # fmt: skip
    wheels(shape, (0.30 * length, -0.29 * length), width, radius, 0.22)
    lamps(shape, length, width, 0.36 * height)
    shape.box(length / 2 - 0.015, 0, 0.2 * height, 0.03, width * 0.55, 0.12 * height, DARK)
    shape.box(-length / 2 + 0.015, 0, 0.30 * height, 0.03, 0.5, 0.11, WHITE)
    return shape.build()


def truck(rng: np.random.Generator) -> Primitives:
    """Box lorry, flatbed with load, or pickup."""
    shape, colour, style = Shape(rng), paint(rng), rng.choice(3, p=(0.5, 0.25, 0.25))
    if style == 2:
        _pickup(rng, shape, colour)
    else:
        _lorry(rng, shape, colour, closed=style == 0)
    return shape.build()


def _pickup(rng: np.random.Generator, shape: Shape, colour) -> None:
    length, width, height = rng.normal(5.6, 0.2), rng.normal(2.0, 0.05), rng.normal(1.9, 0.06)
    shape.box(0, 0, 0.35, length, width, 0.65, colour, material=PAINT, lean=(0.08, 0, 0.04))
    shape.box(
        0.06 * length, 0, 1.0, 0.36 * length, width * 0.92, height - 1.0, GLAZING,
        material=CABIN, accent=colour, lean=(0.7, 0.15, 0.15),
    )  # fmt: skip
    for side in (-1, 1):
        shape.box(-0.31 * length, side * (width / 2 - 0.05), 1.0, 0.36 * length, 0.08, 0.22, colour, material=PAINT)
    wheels(shape, (0.31 * length, -0.30 * length), width, 0.40, 0.26)
    lamps(shape, length, width, 0.72)


def _lorry(rng: np.random.Generator, shape: Shape, colour, *, closed: bool) -> None:
    """A cab before a closed box, or before a bed with three things on it."""
    length, width, height = rng.uniform(6.2, 8.2), rng.normal(2.45, 0.08), rng.normal(3.1, 0.25)
    cab = rng.uniform(1.7, 2.1)
    cab_height = min(height, rng.uniform(2.4, 2.8))
    start = length / 2 - cab
    shape.box(start + cab / 2, 0, 0.5, cab, width * 0.96, cab_height * 0.5, colour, material=PAINT)
    shape.box(
        start + cab / 2, 0, 0.5 + cab_height * 0.5, cab, width * 0.96, cab_height * 0.5 - 0.5, GLAZING,
        material=CABIN, accent=colour, lean=(0.18, 0, 0.04),
    )  # fmt: skip
    shape.box(-cab / 2, 0, 0.55, length - cab, width * 0.8, 0.35, DARK)
    bed = length - cab - 0.15
    if closed:
        load = paint(rng, ((0.8, 0.8, 0.78), (0.7, 0.72, 0.74), (0.10, 0.25, 0.5), (0.5, 0.12, 0.08), (0.75, 0.6, 0.2)))
        shape.box(-cab / 2 - 0.07, 0, 0.9, bed, width, height - 0.9, load, material=MATTE)
        shape.box(-cab / 2 - 0.07, 0, 1.5 + 0.3 * (height - 2.2), bed * 0.6, width + 0.02, 0.5, paint(rng))
    else:
        shape.box(-cab / 2 - 0.07, 0, 0.9, bed, width, 0.45, paint(rng), material=PAINT)
        for i in range(3):
            size = rng.uniform(0.6, 0.9)
            x = -cab / 2 + bed * (i - 1) * 0.3
            shape.box(x, 0, 1.3, bed * 0.24, width * size, rng.uniform(0.4, height - 1.6), paint(rng))
    wheels(shape, (length / 2 - 0.9, -length / 2 + 1.1), width, 0.48, 0.3)
    lamps(shape, length, width, 0.8)


def bus(rng: np.random.Generator) -> Primitives:
    """City bus: a long body with a band of windows."""
    shape = Shape(rng)
    colour = paint(
        rng, ((0.55, 0.06, 0.05), (0.08, 0.30, 0.14), (0.75, 0.75, 0.72), (0.10, 0.22, 0.5), (0.75, 0.5, 0.05))
    )
    length, width, height = rng.normal(11.3, 0.6), rng.normal(2.75, 0.06), rng.normal(3.25, 0.15)
    shape.box(0, 0, 0.32, length, width, height - 0.5, colour, material=WINDOW_BAND, accent=GLAZING)
    shape.box(0, 0, height - 0.2, length * 0.7, width * 0.7, 0.2, (0.6, 0.6, 0.6))
    wheels(shape, (0.32 * length, -0.28 * length), width + 0.02, 0.48, 0.3)
    lamps(shape, length + 0.02, width, 0.75, 0.3)
    shape.box(length / 2 + 0.01, 0, height - 0.62, 0.04, width * 0.7, 0.28, AMBER, material=LAMP)
    return shape.build()


def trailer(rng: np.random.Generator) -> Primitives:
    """Semi-trailer: closed box, container on a frame, or an empty flatbed with a head board."""
    shape, style = Shape(rng), rng.choice(3, p=(0.5, 0.35, 0.15))
    length, width, height = rng.uniform(9.5, 12.9), rng.normal(2.55, 0.05), rng.normal(3.8, 0.15)
    shape.box(0, 0, 0.95, length, width * 0.85, 0.3, DARK)
    if style == 0:
        shape.box(
            0, 0, 1.25, length, width, height - 1.25, paint(rng, ((0.8, 0.8, 0.8), (0.65, 0.68, 0.72))), material=MATTE
        )
    elif style == 1:
        colour = paint(rng, ((0.45, 0.08, 0.05), (0.06, 0.18, 0.35), (0.10, 0.28, 0.16), (0.5, 0.28, 0.06)))
        shape.box(
            0, 0, 1.25, length * 0.97, width * 0.96, height - 1.25, colour, material=FACADE, accent=(0.0, 0.0, 0.0)
        )
    else:
        shape.box(length / 2 - 0.1, 0, 1.25, 0.2, width, 1.3, STEEL)
        for i in range(4):
            shape.box((i - 1.6) * length * 0.2, 0, 1.25, length * 0.17, width * 0.8, rng.uniform(0.5, 1.6), paint(rng))
    wheels(shape, (-length / 2 + 1.0, -length / 2 + 2.2, -length / 2 + 3.4), width, 0.5, 0.35)
    for side in (-1, 1):
        shape.box(length * 0.28, side * width * 0.3, 0, 0.16, 0.16, 0.95, STEEL)
        shape.box(-length / 2 + 0.02, side * width * 0.38, 1.0, 0.04, 0.35, 0.2, RED, material=LAMP)
    shape.box(-length / 2 + 0.02, 0, 0.55, 0.04, width * 0.9, 0.18, WHITE, material=STRIPES, accent=RED)
    return shape.build()


def construction_vehicle(rng: np.random.Generator) -> Primitives:
    """Excavator, wheel loader or roller in a safety colour."""
    shape, style = Shape(rng), int(rng.integers(3))
    colour = paint(rng, (SAFETY_YELLOW, SAFETY_ORANGE, (0.75, 0.52, 0.05)))
    if style == 0:
        length, width = rng.normal(4.0, 0.2), rng.normal(2.7, 0.1)
        for side in (-1, 1):
            shape.box(0, side * (width / 2 - 0.3), 0, length, 0.55, 0.85, DARK, lean=(0.3, 0.3, 0))
        shape.box(-0.3, 0, 0.95, length * 0.85, width * 0.95, 1.0, colour, material=PAINT)
        shape.box(0.55, width * 0.25, 1.2, 1.5, 1.0, 1.75, GLAZING, material=CABIN, accent=colour, lean=(0.15, 0, 0.03))
        reach = rng.uniform(0.8, 1.0)
        for x, z, size in (
            (1.5, 1.6, 1.1),
            (2.2, 2.2, 1.0),
            (2.9, 2.6, 1.0),
            (3.5, 2.3, 0.8),
            (3.9, 1.5, 0.9),
            (4.1, 0.7, 0.9),
        ):
            shape.box(x * reach, -0.25, z, 0.8, 0.35, size, colour, material=PAINT)
        shape.box(4.0 * reach, -0.25, 0.05, 0.9, 1.1, 0.75, STEEL, lean=(0.3, 0, 0))
    elif style == 1:
        length, width = rng.normal(6.2, 0.3), rng.normal(2.6, 0.1)
        shape.box(-0.22 * length, 0, 0.8, 0.5 * length, width * 0.8, 1.1, colour, material=PAINT, lean=(0, 0.2, 0.05))
        shape.box(
            -0.02 * length, 0, 1.6, 1.5, width * 0.6, 1.7, GLAZING, material=CABIN, accent=colour, lean=(0.1, 0.1, 0.05)
        )
        shape.box(0.22 * length, 0, 0.9, 0.35 * length, width * 0.35, 0.5, colour, material=PAINT)
        shape.box(0.43 * length, 0, 0.1, 0.16 * length, width, 1.1, STEEL, lean=(0.3, 0, 0))
        wheels(shape, (0.2 * length, -0.27 * length), width * 0.95, 0.75, 0.55)
    else:
        length, width = rng.normal(4.6, 0.2), rng.normal(2.2, 0.1)
        shape.wheel(length / 2 - 0.65, 0, 0.65, width, accent=(0.05, 0.05, 0.05), colour=STEEL)
        shape.wheel(-length / 2 + 0.65, 0, 0.65, width * 0.9)
        shape.box(-0.15, 0, 0.7, length * 0.75, width * 0.8, 0.85, colour, material=PAINT, lean=(0.1, 0.1, 0))
        for x in (-0.8, 0.7):
            for side in (-1, 1):
                shape.box(x, side * width * 0.36, 1.5, 0.1, 0.1, 1.2, DARK)
        shape.box(-0.05, 0, 2.7, 1.9, width * 0.85, 0.12, colour)
    shape.tube(-0.5, 0, 2.2, 0.09, 0.09, 1.15, AMBER, material=LAMP)
    return shape.build()


def ego_body() -> Primitives:
    """The recording car as its own LiDAR sees it: roof, bonnet and boot around the rear axle's frame."""
    shape = Shape(np.random.default_rng(0))
    shape.box(0.93, 0, 1.38, 1.46, 1.12, 0.11, (0.5, 0.5, 0.5))
    shape.box(1.2, 0, 0.3, 4.0, 1.70, 0.55, (0.5, 0.5, 0.5))
    return shape.build()


__all__ = ["GLASS", "bus", "car", "construction_vehicle", "ego_body", "trailer", "truck"]
