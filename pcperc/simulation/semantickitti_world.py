# SPDX-License-Identifier: Apache-2.0
"""Streets for labelled scans: the driving simulator's world with banks beside the road and at least something of every
class of SemanticKITTI around the recording car."""

from __future__ import annotations

import math

import numpy as np

from pcperc.simulation.driving import labels
from pcperc.simulation.driving.actors import Path
from pcperc.simulation.driving.background import Site, fence, furnish, hedge, sign
from pcperc.simulation.driving.road import PAVEMENT_WIDTH, Road
from pcperc.simulation.driving.shapes import Primitives, Shape
from pcperc.simulation.driving.traffic import Traffic
from pcperc.simulation.driving.world import World, make_light

REACH = 75.0  # metres of street on each side with fences, signs and yards
PANEL = 3.0  # length of a piece of fence, which follows the ground in steps


def build_world(seed: int, sequence: int, attempt: int = 0) -> World:
    """Draw the world of a sequence; the arguments fix every detail."""
    rng = np.random.default_rng([seed, sequence, attempt, 64])
    road = _streets(rng)
    traffic = Traffic(road, rng, waiting=False)
    _add_motorcyclist(traffic)
    site = Site(road, rng)
    for actor in traffic.actors:
        if actor.fixed_height:  # it stands beside the road, not on it
            x, y, _, _ = actor.pose(0.0)
            site.taken.append((x, y, 0.5 * math.hypot(actor.size[0], actor.size[1])))
    _place_signs(site)
    _place_yards(site)
    _place_fences(site)
    rest = furnish(road, rng, urban=float(rng.uniform(0.1, 0.9)), occupied=site.taken)
    sway = np.concatenate([rng.uniform(0.001, 0.006, 2), rng.uniform(0, 6, 2)])
    background = Primitives.concatenate([*site.parts, rest])
    return World(road, background, traffic.actors, traffic.ego, sway, make_light(rng), int(rng.integers(1 << 30)))


def _streets(rng: np.random.Generator) -> Road:
    """Two lanes or four, a junction within sight, a car park beside the road, and a bank behind the pavements."""
    lanes, cross_lanes = int(rng.choice((1, 2), p=(0.75, 0.25))), 1
    bends = np.where(rng.random(2) < 0.6, rng.uniform(-1, 1, 2) / 130, 0.0)
    width, heading = rng.uniform(2.9, 3.5), rng.uniform(-math.pi, math.pi)
    cross_at = float(rng.choice((rng.uniform(-45, -22), rng.uniform(24, 60))))
    relief, phase = rng.uniform(0.3, 1.4), rng.uniform(0, 2 * math.pi)
    kerb = rng.uniform(2.2, 3.0)  # width of the parking strip
    road = Road(0.0, 0.0, heading, *bends, lanes, width, kerb, cross_at, cross_lanes, 1.0, relief, phase)
    half_length, half_width = rng.uniform(7, 14), rng.uniform(7.5, 9)
    away = road.cross_half_width + 16 + half_length
    side, s = int(rng.choice((-1, 1))), rng.uniform(-12, 12)
    if abs(s - cross_at) < away:
        s = cross_at - math.copysign(away, cross_at)
    x, y, yaw = (float(v) for v in road.to_world(s, side * (road.half_width + PAVEMENT_WIDTH + 3 + half_width)))
    lot = (x, y, half_length, half_width, yaw + (0.0 if side > 0 else math.pi))
    return Road(**{**road.__dict__, "carparks": np.array([lot])})


def _add_motorcyclist(traffic: Traffic) -> None:
    """Let one ride in the gap before or behind the recording car, as fast as that."""
    ego, rng = traffic.ego, traffic.rng
    ahead = float(rng.choice((-9.0, 9.0)))
    traffic.add("motorcycle", Path("main", ego.s + ahead, ego.d + rng.normal(0, 0.3), flow=ego.flow), rider=True)


def _beside(site: Site, s: float, offset: float, side: int) -> tuple[float, float, float]:
    """Return x, y and heading of a place ``offset`` metres behind the curb of the main road."""
    x, y, heading = site.road.to_world(s, side * (site.road.half_width + offset))
    return float(x), float(y), float(heading)


def _place_signs(site: Site) -> None:
    """Traffic signs at the curb, facing those who come."""
    rng = site.rng
    for side in (-1, 1):
        s = -REACH + rng.uniform(0, 15)
        while s < REACH:
            x, y, heading = _beside(site, s, rng.uniform(0.5, 1.0), side)
            if site.clear_of_street(x, y) > -PAVEMENT_WIDTH and site.free(x, y, 0.3):
                shape = Shape(rng)
                sign(shape, rng.uniform(0.6, 1.0))
                site.put(shape, x, y, heading + rng.normal(0, 0.1), 0.3)
            s += rng.uniform(10, 24)


def _place_yards(site: Site) -> None:
    """Other ground: paved or gravelled slabs, a little raised, behind the pavement."""
    rng = site.rng
    for i in range(12):
        side, length, width = int(rng.choice((-1, 1))), rng.uniform(4, 9), rng.uniform(3, 6)
        s = rng.uniform(-18, 18) if i < 4 else rng.uniform(-60, 60)
        x, y, heading = _beside(site, s, PAVEMENT_WIDTH + 0.3 + width / 2, side)
        radius = 0.5 * math.hypot(length, width)
        if site.clear_of_street(x, y) > 0.2 + width / 2 - 1e-6 and site.free(x, y, radius):
            shape = Shape(rng, labels.OTHER_GROUND)
            shape.box(0, 0, -1.0, length, width, 1.0 + rng.uniform(0.06, 0.25), (0.4, 0.38, 0.35))
            site.put(shape, x, y, heading, radius)


def _place_fences(site: Site) -> None:
    """Fences, low walls and hedges along the pavement's outer edge, with gaps, and at right angles between gardens."""
    rng = site.rng
    for side in (-1, 1):
        s = -REACH + rng.uniform(0, 10)
        while s < REACH:
            panel = (fence if rng.random() < 0.65 else hedge)(rng, PANEL)
            for _ in range(int(rng.integers(2, 8))):
                _place_panel(site, panel, *_beside(site, s, PAVEMENT_WIDTH + 0.5, side))
                s += PANEL
            for step in range(int(rng.integers(0, 7))):
                x, y, heading = _beside(site, s, PAVEMENT_WIDTH + 0.5 + PANEL * (step + 0.5), side)
                _place_panel(site, panel, x, y, heading + math.pi / 2)
            s += rng.uniform(2, 14)


def _place_panel(site: Site, panel: Shape, x: float, y: float, yaw: float) -> None:
    if site.clear_of_street(x, y) > 0.3 and site.free(x, y, 0.5 * PANEL - 0.1):
        site.put(panel, x, y, yaw, 0.5 * PANEL - 0.1)
