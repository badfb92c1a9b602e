# SPDX-License-Identifier: Apache-2.0
"""Who walks and cycles on the street of a `Traffic`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pcperc.simulation.driving import street_users as users
from pcperc.simulation.driving.actors import STILL, Flow, Path
from pcperc.simulation.driving.ground import PAVEMENT_WIDTH

if TYPE_CHECKING:
    from pcperc.simulation.driving.traffic import Traffic


def place_cyclists(traffic: Traffic) -> None:
    """Riders between traffic and parked cars, bicycles left on the pavement."""
    rng, road = traffic.rng, traffic.road
    strip = road.lanes * road.lane_width + 0.6
    riders: list[tuple[float, int]] = []
    for i in range(int(rng.integers(3, 8))):
        way = int(rng.choice((-1, 1)))
        s = rng.uniform(-30, 30) if i < 2 else rng.uniform(-70, 70)
        on_site = -way == traffic.site_side and traffic.site[0] - 12 < s < traffic.site[1] + 12
        if on_site and i < 2:
            way, on_site = -way, False
        beside = any(abs(s - other) < 6.0 and way == direction for other, direction in riders)
        if not on_site and not beside and not (traffic.waiting and traffic.near_junction(s, 25)):
            riders.append((s, way))
            traffic.add("bicycle", Path("main", s, -way * strip, way, Flow(rng.uniform(2.5, 5.5))), rider=True)
    for _ in range(int(rng.integers(2, 6))):
        _stand_bicycle(traffic, rng.uniform(-35, 35))


def _stand_bicycle(traffic: Traffic, s: float) -> None:
    """Leave a bicycle on the pavement, where nothing stands yet."""
    side = int(traffic.rng.choice((-1, 1)))
    if traffic.near_junction(s, 4):
        s = traffic.road.cross_at + math.copysign(traffic.road.cross_half_width + 6, s - traffic.road.cross_at)
    d = side * (traffic.road.half_width + traffic.rng.uniform(2.3, 2.8))
    turn = traffic.rng.choice((0.0, math.pi)) + traffic.rng.normal(0, 0.15)
    x, y, heading = traffic.road.to_world(s, d)
    if all(math.hypot(x - a, y - b) > 1.2 + r for a, b, r in traffic.occupied):
        traffic.occupied.append((float(x), float(y), 1.0))
        traffic.add("bicycle", Path("place", float(x), float(y), turn=float(heading) + turn), rider=False)


def add_person(traffic: Traffic, path: Path, *, worker: bool = False) -> None:
    """Put somebody on a path, walking where it moves."""
    walking = path.flow.mean > 0 or path.drift != 0
    shape = users.pedestrian(traffic.rng, worker=worker, walking=walking)
    category = "human.pedestrian.construction_worker" if worker else ""
    traffic.add("pedestrian", path, shape=shape, category=category)


def place_people(traffic: Traffic) -> None:
    """Walkers on both pavements, people who stand, and some who cross where traffic waits."""
    rng, road = traffic.rng, traffic.road
    for i in range(int(rng.integers(8, 26))):
        s = rng.uniform(-28, 28) if i < 5 else rng.uniform(-75, 75)
        side, way = rng.choice((-1, 1)), int(rng.choice((-1, 1)))
        d = side * (road.half_width + rng.uniform(0.5, 1.9))
        standing = rng.random() < 0.25
        flow = STILL if standing else Flow(rng.uniform(0.8, 1.7))
        add_person(traffic, Path("main", s, d, way, flow, turn=rng.uniform(-3, 3) if standing else 0.0))
        if rng.random() < 0.3:  # a companion
            add_person(traffic, Path("main", s + rng.uniform(-0.2, 0.2), d + side * 0.65, way, flow))
    for _ in range(int(rng.integers(0, 5))):
        speed = rng.choice((-1, 1)) * rng.uniform(0.9, 1.6)
        corner = rng.choice((-1, 1))
        if traffic.waiting:
            s = road.cross_at + corner * (road.cross_half_width + rng.uniform(2.0, 4.5))
            half = road.half_width - PAVEMENT_WIDTH
            add_person(traffic, Path("main", s, rng.uniform(-half, half), drift=float(speed)))
        else:
            s = corner * (road.half_width + rng.uniform(2.0, 4.5))
            half = road.cross_half_width
            add_person(traffic, Path("cross", s, rng.uniform(-half, half), drift=float(speed)))
