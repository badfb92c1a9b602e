# SPDX-License-Identifier: Apache-2.0
"""What stands around the streets and is not annotated: buildings, trees, hedges, poles, walls, small clutter."""

from __future__ import annotations

import math

import numpy as np

from pcperc.simulation.driving import labels
from pcperc.simulation.driving.ground import CURB_HEIGHT, PAVEMENT_WIDTH, to_road
from pcperc.simulation.driving.road import Road
from pcperc.simulation.driving.shapes import FACADE, FOLIAGE, LAMP, SLATS, Primitives, Shape
from pcperc.simulation.driving.vehicles import AMBER, DARK, RED, STEEL, paint

WALLS = (
    (0.42, 0.38, 0.33), (0.30, 0.14, 0.09), (0.52, 0.50, 0.47), (0.36, 0.36, 0.38), (0.50, 0.42, 0.28),
    (0.22, 0.23, 0.26), (0.40, 0.24, 0.16),
)  # fmt: skip
LEAVES = ((0.05, 0.14, 0.03), (0.08, 0.18, 0.04), (0.12, 0.16, 0.03), (0.04, 0.10, 0.04))
REACH = 125.0  # metres of street on each side that are furnished


class Site:
    """Places background so that it overlaps neither the streets nor what stands there already."""

    def __init__(self, road: Road, rng: np.random.Generator):
        self.road, self.rng, self.table = road, rng, road.table()
        self.taken: list[tuple[float, float, float]] = [(c[0], c[1], math.hypot(c[2], c[3])) for c in road.carparks]
        self.parts: list[Primitives] = []

    def clear_of_street(self, x: float, y: float) -> float:
        """Metres from the pavement's outer edge; negative on the street."""
        _, d, _, d2 = to_road(self.table, x, y)
        return min(abs(d) - self.road.half_width, abs(d2) - self.road.cross_half_width) - PAVEMENT_WIDTH

    def free(self, x: float, y: float, radius: float) -> bool:
        """Whether a disc touches nothing placed before."""
        return all(math.hypot(x - a, y - b) > radius + r for a, b, r in self.taken)

    def put(self, shape: Shape, x: float, y: float, yaw: float, radius: float) -> None:
        """Stand a shape on the lowest ground within ``radius`` and remember the space."""
        reach = ((0, 0), (radius, 0), (-radius, 0), (0, radius), (0, -radius))
        rise = min(self.road.rise(x + dx, y + dy) for dx, dy in reach) if self.road.relief else 0.0
        self.parts.append(shape.build().place(x, y, CURB_HEIGHT + rise, yaw))
        self.taken.append((x, y, radius))


def building(rng: np.random.Generator, length: float, width: float, height: float) -> Shape:
    """A block with rows of windows, a plinth, at times a set-back upper part."""
    shape, wall = Shape(rng, labels.BUILDING), paint(rng, WALLS)
    shape.box(0, 0, 0, length, width, height, wall, material=FACADE, accent=(0.05, 0.07, 0.09))
    shape.box(0, 0, 0, length + 0.3, width + 0.3, rng.uniform(0.4, 1.0), tuple(0.6 * np.array(wall)))
    shape.box(0, 0, height, length + 0.5, width + 0.5, 0.4, tuple(0.8 * np.array(wall)))
    if rng.random() < 0.4:
        shape.box(
            0, 0, height, length * 0.6, width * 0.6, rng.uniform(2, 6), wall, material=FACADE, accent=(0.05, 0.07, 0.09)
        )
    for _ in range(rng.integers(1, 5)):  # porches, bays: facades are not flat to a LiDAR
        x = rng.uniform(-0.4, 0.4) * length
        side = rng.choice((-1, 1))
        shape.box(x, side * (width / 2 + 0.4), 0, rng.uniform(1, 3), 1.2, rng.uniform(2.2, 3.4), paint(rng, WALLS))
    return shape


def tree(rng: np.random.Generator) -> Shape:
    """A trunk and a crown of two to four porous balls."""
    shape, leaf = Shape(rng, labels.TRUNK), paint(rng, LEAVES)
    trunk, size = rng.uniform(1.8, 3.4), rng.uniform(2.6, 6.5)
    shape.tube(0, 0, 0, rng.uniform(0.12, 0.22), 0.1, trunk + 0.5, (0.10, 0.07, 0.05))
    shape.label = labels.VEGETATION
    for _ in range(rng.integers(2, 5)):
        x, y = rng.normal(0, 0.22 * size, 2)
        ball = size * rng.uniform(0.55, 0.9)
        shape.ball(
            x, y, trunk + rng.uniform(-0.2, 0.35 * size), ball, ball, ball * 0.9, leaf, material=FOLIAGE, porosity=0.45
        )
    return shape


def bush(rng: np.random.Generator) -> Shape:
    """A low ball of leaves."""
    shape, size = Shape(rng, labels.VEGETATION), rng.uniform(0.7, 1.8)
    shape.ball(
        0, 0, -0.1, size, size * rng.uniform(0.8, 1.3), size * 0.8, paint(rng, LEAVES), material=FOLIAGE, porosity=0.2
    )
    return shape


def hedge(rng: np.random.Generator, length: float) -> Shape:
    """A cut hedge along x."""
    shape = Shape(rng, labels.VEGETATION)
    width, height = rng.uniform(0.6, 1.1), rng.uniform(0.7, 1.5)
    shape.box(0, 0, 0, length, width, height, paint(rng, LEAVES), material=FOLIAGE, porosity=0.15)
    return shape


def fence(rng: np.random.Generator, length: float) -> Shape:
    """A wall, or a railing that lets half of the rays pass."""
    shape = Shape(rng, labels.FENCE)
    if rng.random() < 0.5:
        shape.box(0, 0, 0, length, 0.25, rng.uniform(0.7, 2.0), paint(rng, WALLS))
    else:
        shape.box(0, 0, 0.1, length, 0.06, rng.uniform(0.9, 1.5), STEEL, material=SLATS, porosity=0.6)
    return shape


def pole(rng: np.random.Generator) -> Shape:
    """A street lamp, a sign or a bollard."""
    shape, style = Shape(rng, labels.POLE), rng.random()
    if style < 0.5:
        height = rng.uniform(6, 9)
        shape.tube(0, 0, 0, 0.11, 0.07, height, STEEL)
        shape.box(0.9, 0, height - 0.1, 1.8, 0.12, 0.1, STEEL)
        shape.box(1.6, 0, height - 0.2, 0.6, 0.25, 0.1, DARK)
    elif style < 0.8:
        sign(shape)
    else:
        shape.tube(0, 0, 0, 0.08, 0.08, 0.95, DARK)
    return shape


def sign(shape: Shape, size: float = 0.6) -> None:
    """A plate of ``size`` metres on a thin post, facing -x and x."""
    shape.label = labels.POLE
    shape.tube(0, 0, 0, 0.04, 0.04, 1.7 + size, STEEL)
    colour = paint(shape.rng, ((0.05, 0.15, 0.5), (0.7, 0.7, 0.7), (0.6, 0.05, 0.05), (0.75, 0.55, 0.05)))
    shape.label = labels.TRAFFIC_SIGN
    shape.box(0.03, 0, 1.9, 0.04, size, size, colour)


def traffic_light(rng: np.random.Generator) -> Shape:
    """A signal head on a post, facing -x."""
    shape = Shape(rng, labels.POLE)
    shape.tube(0, 0, 0, 0.09, 0.07, 3.4, STEEL)
    shape.label = labels.OTHER_OBJECT
    shape.box(0, 0, 2.6, 0.3, 0.34, 0.95, DARK)
    for z, colour in ((3.25, RED), (2.95, AMBER), (2.65, (0.05, 0.6, 0.2))):
        shape.box(-0.16, 0, z, 0.03, 0.2, 0.2, colour, material=LAMP)
    return shape


def clutter(rng: np.random.Generator) -> Shape:
    """Bins, boxes, benches, hydrants, and posts of the size of a person: things a detector must tell apart."""
    shape, style = Shape(rng, labels.OTHER_OBJECT), int(rng.integers(4))
    if style == 0:
        shape.box(0, 0, 0, 0.5, 0.55, rng.uniform(0.8, 1.1), paint(rng, ((0.05, 0.12, 0.06), (0.1, 0.1, 0.1))))
    elif style == 1:
        shape.box(0, 0, 0.4, 1.6, 0.45, 0.08, (0.25, 0.15, 0.08))
        shape.box(0, -0.2, 0.45, 1.6, 0.06, 0.45, (0.25, 0.15, 0.08))
        for x in (-0.6, 0.6):
            shape.box(x, 0, 0, 0.08, 0.4, 0.4, DARK)
    elif style == 2:
        shape.tube(0, 0, 0, 0.15, 0.13, 0.75, (0.6, 0.08, 0.04))
    else:
        shape.box(0, 0, 0, 0.6, 0.8, rng.uniform(1.2, 1.8), (0.35, 0.37, 0.36))
    return shape


def furnish(road: Road, rng: np.random.Generator, *, urban: float, occupied=()) -> Primitives:
    """Fill the surroundings of the streets.

    Args:
        urban: 0 (green, few houses) to 1 (dense).
        occupied: discs (x, y, radius) to leave free.
    """
    site = Site(road, rng)
    site.taken += list(occupied)
    place_buildings(site, urban)
    place_along_pavement(site)
    place_greenery(site, urban)
    place_lights(site)
    return Primitives.concatenate(site.parts)


def place_lights(site: Site) -> None:
    """Traffic lights at the corners of the junction."""
    for s, d, turn in _light_positions(site.road):
        x, y, heading = site.road.to_world(site.road.cross_at + s, d)
        site.put(traffic_light(site.rng), float(x), float(y), float(heading) + turn, 0.5)


def _light_positions(road: Road):
    """Corners of the junction with the heading of traffic they serve."""
    w, c = road.half_width + 1.0, road.cross_half_width + 1.0
    return ((c, -w, 0.0), (-c, w, math.pi), (c, w, math.pi / 2), (-c, -w, -math.pi / 2))


def place_buildings(site: Site, urban: float) -> None:
    """Three rows of houses on both sides of the main road, closer and higher the more urban the place."""
    rng = site.rng
    for row, (near, far) in enumerate(((1.5, 12.0), (22.0, 38.0), (45.0, 62.0))):
        for side in (-1, 1):
            s = -REACH
            while s < REACH:
                length, width = rng.uniform(9, 30), rng.uniform(9, 18)
                if rng.random() < 0.55 + 0.4 * urban:
                    setback = rng.uniform(near, far) * (1.6 - urban)
                    d = side * (site.road.half_width + PAVEMENT_WIDTH + setback + width / 2)
                    x, y, yaw = (float(v) for v in site.road.to_world(s + length / 2, d))
                    radius = 0.5 * math.hypot(length, width)
                    if site.clear_of_street(x, y) > radius and site.free(x, y, 0.75 * radius):
                        height = rng.uniform(5, 11) + urban * rng.exponential(7) + 6 * row
                        site.put(building(rng, length, width, height), x, y, yaw, 0.8 * radius)
                s += length + rng.uniform(1, 10) * (1.5 - urban)


def place_along_pavement(site: Site) -> None:
    """Lamps, signs, street trees, bins and hedges beside the pavement, on its outer third."""
    rng, road = site.rng, site.road
    makers = ((pole, 0.4), (tree, 0.5), (clutter, 0.4), (bush, 0.8))
    for side in (-1, 1):
        s = -REACH
        while s < REACH:
            maker, radius = makers[rng.choice(4, p=(0.30, 0.38, 0.2, 0.12))]
            d = side * (road.half_width + rng.uniform(2.4, 3.0) + (0.5 if maker is bush else 0.0))
            x, y, heading = (float(v) for v in road.to_world(s, d))
            if site.clear_of_street(x, y) > -1.0 and site.free(x, y, radius):
                site.put(maker(rng), x, y, heading - side * math.pi / 2, radius)
            s += rng.uniform(3.0, 8.5)


def place_greenery(site: Site, urban: float) -> None:
    """Trees, bushes, hedges and fences on the verge; more where there are fewer houses."""
    rng, road = site.rng, site.road
    for _ in range(int(260 - 100 * urban)):
        s, side = rng.uniform(-REACH, REACH), rng.choice((-1, 1))
        d = side * (road.half_width + PAVEMENT_WIDTH + 0.8 + rng.exponential(16))
        x, y, heading = (float(v) for v in road.to_world(s, d))
        draw = rng.random()
        length = rng.uniform(3, 12)
        radius = 1.6 if draw < 0.6 else length / 2
        if site.clear_of_street(x, y) < (0.6 if draw < 0.6 else length / 2) or not site.free(x, y, radius):
            continue
        shape = (
            tree(rng)
            if draw < 0.4
            else bush(rng)
            if draw < 0.6
            else hedge(rng, length)
            if draw < 0.8
            else fence(rng, length)
        )
        site.put(shape, x, y, heading + (0 if draw >= 0.6 else rng.uniform(0, 6)), radius)
