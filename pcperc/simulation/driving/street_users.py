# SPDX-License-Identifier: Apache-2.0
"""People, two-wheelers and street furniture that is annotated: pedestrian, bicycle, motorcycle, barrier, cone."""

from __future__ import annotations

import numpy as np

from pcperc.simulation.driving.shapes import BANDS, GLASS, LAMP, PAINT, STRIPES, Primitives, Shape
from pcperc.simulation.driving.vehicles import DARK, RED, SAFETY_ORANGE, STEEL, WHITE, paint

CLOTHES = (
    (0.05, 0.06, 0.15), (0.02, 0.02, 0.02), (0.55, 0.55, 0.55), (0.45, 0.05, 0.05), (0.10, 0.25, 0.12),
    (0.60, 0.45, 0.10), (0.75, 0.75, 0.70), (0.15, 0.30, 0.55), (0.40, 0.20, 0.35),
)  # fmt: skip
SKIN = ((0.60, 0.38, 0.27), (0.40, 0.22, 0.13), (0.20, 0.11, 0.07), (0.70, 0.48, 0.36))


def _person(shape: Shape, rng, height: float, x: float, z: float, *, stride: float, top=None) -> None:
    """Head, trunk, arms and legs; ``z`` is the height of the soles."""
    jacket = paint(rng, CLOTHES) if top is None else top
    trousers, skin = paint(rng, CLOTHES), paint(rng, SKIN)
    hip, neck = 0.48 * height, 0.84 * height
    for side in (-1, 1):
        step = side * stride * 0.5
        shape.tube(x + step * 0.62, side * 0.095, z, 0.07, 0.085, hip * 0.55, trousers)
        shape.tube(x + step * 0.25, side * 0.09, z + hip * 0.48, 0.085, 0.11, hip * 0.58, trousers)
        shape.tube(x - step * 0.3, side * 0.215, z + 0.44 * height, 0.045, 0.06, 0.37 * height, jacket)
    shape.ball(x, 0, z + hip - 0.10, 0.27, 0.38, neck - hip + 0.16, jacket)
    shape.ball(x, 0, z + 0.68 * height, 0.25, 0.46, 0.16 * height, jacket)
    shape.tube(x, 0, z + 0.80 * height, 0.06, 0.055, 0.07 * height, skin)
    shape.ball(x + 0.01, 0, z + 0.855 * height, 0.21, 0.17, 0.145 * height, skin)
    if rng.random() < 0.7:
        hair = paint(rng, ((0.03, 0.02, 0.02), (0.2, 0.12, 0.05), (0.4, 0.4, 0.4)))
        shape.ball(x - 0.02, 0, z + 0.9 * height, 0.22, 0.18, 0.1 * height, hair)


def pedestrian(rng: np.random.Generator, *, worker: bool = False, walking: bool = True) -> Primitives:
    """An adult or a child, some with a bag; workers wear orange."""
    shape = Shape(rng)
    height = rng.normal(1.72, 0.09) if rng.random() < 0.9 else rng.uniform(1.15, 1.45)
    _person(shape, rng, height, 0.0, 0.0, stride=0.55 if walking else 0.12, top=SAFETY_ORANGE if worker else None)
    if rng.random() < 0.25:
        shape.box(-0.2, 0, 0.52 * height, 0.2, 0.3, 0.28 * height, paint(rng, CLOTHES))
    if worker:
        shape.ball(0, 0, 0.93 * height, 0.3, 0.26, 0.1 * height, (0.8, 0.7, 0.05))
    return shape.build()


def bicycle(rng: np.random.Generator, *, rider: bool) -> Primitives:
    """Two spoked wheels, a frame, a handlebar, and the rider."""
    shape, colour = Shape(rng), paint(rng)
    length = rng.normal(1.72, 0.06)
    axle = length / 2 - 0.34
    for x in (axle, -axle):
        shape.wheel(x, 0, 0.34, 0.05, accent=(0.2, 0.2, 0.2), porosity=0.55)
    shape.box(0, 0, 0.55, 2 * axle - 0.1, 0.05, 0.07, colour, material=PAINT)
    shape.box(-0.1, 0, 0.32, 0.06, 0.06, 0.55, colour, material=PAINT)
    shape.box(0.1, 0, 0.4, 0.5, 0.04, 0.06, colour, material=PAINT)
    shape.box(-0.18, 0, 0.88, 0.26, 0.16, 0.07, DARK)
    shape.box(axle - 0.12, 0, 0.6, 0.06, 0.06, 0.42, colour)
    shape.box(axle - 0.15, 0, 1.0, 0.08, 0.56, 0.05, DARK)
    if rider:
        _person(shape, rng, rng.normal(1.62, 0.06), -0.08, 0.16, stride=0.35)
    return shape.build()


def motorcycle(rng: np.random.Generator, *, rider: bool) -> Primitives:
    """Scooter or motorcycle, and the rider with a helmet."""
    shape, colour = Shape(rng), paint(rng, ((0.5, 0.03, 0.03), (0.03, 0.03, 0.03), (0.05, 0.12, 0.4), (0.6, 0.6, 0.6)))
    length = rng.normal(2.08, 0.08)
    axle = length / 2 - 0.31
    for x in (axle, -axle):
        shape.wheel(x, 0, 0.31, 0.14)
    shape.box(-0.05, 0, 0.3, 2 * axle - 0.45, 0.30, 0.36, STEEL)
    shape.box(0.18, 0, 0.62, 0.6, 0.34, 0.32, colour, material=PAINT, lean=(0.4, 0.2, 0.2))
    shape.box(-0.42, 0, 0.66, 0.75, 0.28, 0.16, DARK)
    shape.box(-axle - 0.05, 0, 0.62, 0.3, 0.22, 0.2, colour, material=PAINT)
    shape.box(axle - 0.14, 0, 0.45, 0.14, 0.18, 0.6, colour, material=PAINT)
    shape.box(axle - 0.25, 0, 1.0, 0.1, 0.74, 0.07, DARK)
    shape.box(axle - 0.03, 0, 0.82, 0.08, 0.2, 0.2, WHITE, material=LAMP)
    shape.box(-axle - 0.19, 0, 0.66, 0.04, 0.16, 0.1, RED, material=LAMP)
    if rider:
        _person(shape, rng, rng.normal(1.5, 0.05), -0.3, 0.22, stride=0.3)
        shape.ball(-0.29, 0, 1.45, 0.3, 0.27, 0.3, paint(rng), material=GLASS)
    return shape.build()


def barrier(rng: np.random.Generator, style: int, colour) -> Primitives:
    """One element of a barrier; its heading (x) is across the row. Styles: 0 moulded block, 1 barricade with boards."""
    shape = Shape(rng)
    if style == 0:
        width, height = rng.normal(2.0, 0.04), rng.normal(1.02, 0.03)
        shape.box(0, 0, 0, 0.62, width, 0.32, colour, lean=(0.35, 0.35, 0))
        shape.box(0, 0, 0.32, 0.38, width, height - 0.32, colour, lean=(0.12, 0.12, 0))
    else:
        width, height = rng.normal(2.0, 0.1), rng.normal(1.05, 0.04)
        for z in (0.45, 0.78):
            shape.box(0, 0, z, 0.08, width, 0.27, WHITE, material=STRIPES, accent=colour)
        for side in (-1, 1):
            y = side * (width / 2 - 0.15)
            shape.box(0, y, 0, 0.55, 0.1, 0.12, DARK)
            shape.box(0, y, 0.1, 0.1, 0.07, height - 0.1, STEEL)
    return shape.build()


def traffic_cone(rng: np.random.Generator) -> Primitives:
    """A cone with reflecting bands on a square foot."""
    shape = Shape(rng)
    height = rng.uniform(0.7, 1.0)
    foot = 0.36 + 0.06 * (height - 0.7)
    shape.box(0, 0, 0, foot, foot, 0.05, DARK)
    shape.tube(0, 0, 0.05, foot * 0.40, 0.035, height - 0.05, SAFETY_ORANGE, material=BANDS, accent=(0.9, 0.9, 0.9))
    return shape.build()
