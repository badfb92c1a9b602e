# SPDX-License-Identifier: Apache-2.0
"""Streets for labelled scans: the driving simulator's world with banks beside the road and at least something of every
class of SemanticKITTI around the recording car."""

from __future__ import annotations

import math

import numpy as np

from pcperc.simulation.driving import labels, vehicles
from pcperc.simulation.driving import street_users as users
from pcperc.simulation.driving.actors import Actor, Path
from pcperc.simulation.driving.background import (
    LEAVES,
    Site,
    building,
    fence,
    hedge,
    place_along_pavement,
    place_buildings,
    place_greenery,
    place_lights,
    sign,
    tree,
)
from pcperc.simulation.driving.ground import PAVEMENT_WIDTH
from pcperc.simulation.driving.road import Road
from pcperc.simulation.driving.shapes import FOLIAGE, Primitives, Shape
from pcperc.simulation.driving.traffic import HEAVY, Traffic
from pcperc.simulation.driving.vehicles import paint
from pcperc.simulation.driving.world import World, make_light

REACH = 75.0  # metres of street on each side with fences, signs and yards
DROPPED = {"car": 0.25, "pedestrian": 0.65, "bicycle": 0.3, "motorcycle": 0.1}  # share of the actors of Traffic
PANEL = 3.0  # length of a piece of fence, which follows the ground in steps


def build_world(seed: int, sequence: int, attempt: int = 0) -> World:
    """Draw the world of a sequence; the arguments fix every detail."""
    rng = np.random.default_rng([seed, sequence, attempt, 64])
    road = _streets(rng)
    traffic = Traffic(road, rng, waiting=False)
    actors = residential(traffic)
    site, urban = Site(road, rng), float(rng.uniform(0.7, 1.3))
    for actor in actors:
        if actor.fixed_height:  # it stands beside the road, not on it
            x, y, _, _ = actor.pose(0.0)
            site.taken.append((x, y, 0.5 * math.hypot(actor.size[0], actor.size[1])))
    place_signs(site)
    place_yards(site)
    place_houses(site)
    place_fences(site)
    place_buildings(site, urban)
    place_gardens(site, float(rng.uniform(0.5, 1.2)))
    place_along_pavement(site)
    place_greenery(site, urban)
    place_lights(site)
    sway = np.concatenate([rng.uniform(0.001, 0.006, 2), rng.uniform(0, 6, 2)])
    background = Primitives.concatenate(site.parts)
    return World(road, background, actors, traffic.ego, sway, make_light(rng), int(rng.integers(1 << 30)))


def _streets(rng: np.random.Generator) -> Road:
    """Two lanes or four, a junction within sight, a car park beside the road, and a bank behind the pavements."""
    lanes, cross_lanes = int(rng.choice((1, 2), p=(0.85, 0.15))), 1
    bends = np.where(rng.random(2) < 0.6, rng.uniform(-1, 1, 2) / 130, 0.0)
    width, heading = rng.uniform(2.7, 3.1), rng.uniform(-math.pi, math.pi)
    cross_at = float(rng.choice((rng.uniform(-45, -22), rng.uniform(24, 60))))
    relief, phase = rng.uniform(0.3, 1.4), rng.uniform(0, 2 * math.pi)
    # Beside a narrow strip cars are parked half on the pavement.
    strip = rng.uniform(1.6, 2.2) if rng.random() < 0.8 else rng.uniform(3.5, 3.8)
    road = Road(0.0, 0.0, heading, *bends, lanes, width, strip, cross_at, cross_lanes, 1.0, relief, phase)
    half_length, half_width = rng.uniform(7, 14), rng.uniform(7.5, 9)
    away = road.cross_half_width + 16 + half_length
    side, s = int(rng.choice((-1, 1))), rng.uniform(-12, 12)
    if abs(s - cross_at) < away:
        s = cross_at - math.copysign(away, cross_at)
    x, y, yaw = (float(v) for v in road.to_world(s, side * (road.half_width + PAVEMENT_WIDTH + 3 + half_width)))
    lot = (x, y, half_length, half_width, yaw + (0.0 if side > 0 else math.pi))
    return Road(**{**road.__dict__, "carparks": np.array([lot])})


def residential(traffic: Traffic) -> list[Actor]:
    """Thin out what drives and walks in a city centre: few heavy vehicles, fewer people, at times a building site.

    A truck and another heavy vehicle stay, and there is a motorcyclist; where a heavy vehicle was parked, a car is.
    """
    rng, ego, kept = traffic.rng, traffic.ego, []
    parked = [a.path for a in traffic.actors if a.fixed_height and a.name not in ("pedestrian", "bicycle")]
    building_site, heavy = rng.random() < 0.25, _heavy_in_sight(traffic)
    for actor in traffic.actors:
        path = actor.path
        if path.flow is ego.flow and abs(path.s - ego.s) < 35:
            continue  # the motorcyclist's place
        if actor.name in HEAVY:
            if actor in heavy:
                kept.append(actor)
            elif path.street != "place" and rng.random() < 0.3:
                kept.append(Actor("car", vehicles.car(rng), path, traffic.road, resting="vehicle.parked"))
            continue
        if actor.name in ("barrier", "traffic_cone") and not building_site:
            continue
        if rng.random() < DROPPED.get(actor.name, 0.0) or (actor.name == "pedestrian" and _in_the_way(path, parked)):
            continue
        kept.append(actor)
    ahead = float(rng.choice((-1, 1)) * rng.uniform(14, 28))
    path = Path("main", ego.s + ahead, ego.d + rng.normal(0, 0.3), flow=ego.flow)
    shape = users.motorcycle(rng, rider=True)
    kept.append(Actor("motorcycle", shape, path, traffic.road, resting="cycle.with_rider"))
    return kept


def _heavy_in_sight(traffic: Traffic) -> list[Actor]:
    """Return a truck and another heavy vehicle of the main road, those closest to 22 m away."""
    heavy = [a for a in traffic.actors if a.name in HEAVY and a.path.street == "main"]
    heavy = [a for a in heavy if a.path.flow is not traffic.ego.flow]
    heavy.sort(key=lambda actor: abs(abs(actor.path.s - traffic.ego.s) - 22.0))
    trucks = [actor for actor in heavy if actor.name == "truck"]
    return trucks[:1] + [actor for actor in heavy if actor.name != "truck"][:1]


def _in_the_way(path: Path, parked: list[Path]) -> bool:
    """Whether a walk comes across a vehicle that is parked on the same pavement."""
    return any(p.street == path.street and p.d * path.d > 0 and abs(p.s - path.s) < 7 for p in parked)


def _beside(site: Site, s: float, offset: float, side: int) -> tuple[float, float, float]:
    """Return x, y and heading of a place ``offset`` metres behind the curb of the main road."""
    x, y, heading = site.road.to_world(s, side * (site.road.half_width + offset))
    return float(x), float(y), float(heading)


def place_signs(site: Site) -> None:
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


def place_yards(site: Site) -> None:
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


def place_houses(site: Site) -> None:
    """Houses whose fronts stand 1 to 7 m behind the pavement."""
    rng = site.rng
    for side in (-1, 1):
        s = -1.3 * REACH + rng.uniform(0, 8)
        while s < 1.3 * REACH:
            length, width, setback = rng.uniform(8, 17), rng.uniform(8, 11), rng.uniform(0.8, 7)
            offsets = PAVEMENT_WIDTH + setback + np.array([0.0, width])
            corners = [_beside(site, s + end, offset, side)[:2] for end in (0.0, length) for offset in offsets]
            x, y, heading = _beside(site, s + length / 2, offsets.mean(), side)
            clear = all(site.clear_of_street(*corner) > 0.5 for corner in corners)
            if clear and rng.random() < 0.75 and site.free(x, y, 0.5 * width):
                site.put(building(rng, length, width, rng.uniform(5, 10)), x, y, heading, 0.5 * max(length, width))
            s += length + rng.uniform(2, 9)


def place_fences(site: Site) -> None:
    """Fences, low walls and hedges along the pavement's outer edge, with gaps, and at right angles between gardens."""
    rng = site.rng
    for side in (-1, 1):
        s = -REACH + rng.uniform(0, 10)
        while s < REACH:
            panel = (fence if rng.random() < 0.55 else hedge)(rng, PANEL)
            for _ in range(int(rng.integers(2, 8))):
                _place_panel(site, panel, *_beside(site, s, PAVEMENT_WIDTH + 0.5, side))
                s += PANEL
            for step in range(int(rng.integers(0, 7))):
                x, y, heading = _beside(site, s, PAVEMENT_WIDTH + 0.5 + PANEL * (step + 0.5), side)
                _place_panel(site, panel, x, y, heading + math.pi / 2)
            s += rng.uniform(4, 12)


def _place_panel(site: Site, panel: Shape, x: float, y: float, yaw: float) -> None:
    if site.clear_of_street(x, y) > 0.3 and site.free(x, y, 0.5 * PANEL - 0.1):
        site.put(panel, x, y, yaw, 0.5 * PANEL - 0.1)


def thicket(rng: np.random.Generator) -> Shape:
    """Shrubs grown into each other: leaves down to the ground."""
    shape, leaf = Shape(rng, labels.VEGETATION), paint(rng, LEAVES)
    for _ in range(rng.integers(3, 8)):
        (x, y), size, height = rng.normal(0, 1.1, 2), rng.uniform(1.4, 3.4), rng.uniform(1.0, 4.5)
        shape.ball(x, y, -0.2, size, size, height, leaf, material=FOLIAGE, porosity=0.15)
    return shape


def place_gardens(site: Site, green: float) -> None:
    """Thickets and trees of gardens near the street and of a wood behind them; ``green``, around 1, says how many."""
    rng = site.rng
    for near, far, count in ((0.9, 10.0, 400), (10.0, 50.0, 600), (50.0, 80.0, 200)):
        for _ in range(int(count * green)):
            side, s = int(rng.choice((-1, 1))), rng.uniform(-1.4 * REACH, 1.4 * REACH)
            x, y, heading = _beside(site, s, PAVEMENT_WIDTH + rng.uniform(near, far), side)
            maker, radius = (tree, 0.8) if rng.random() < 0.3 else (thicket, 0.9)
            if site.clear_of_street(x, y) > 0.3 and site.free(x, y, radius):
                site.put(maker(rng), x, y, heading, radius)
