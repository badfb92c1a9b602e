# SPDX-License-Identifier: Apache-2.0
"""Who is on the street: fills lanes, parking strips, car parks and a building site around the ego car; `people.py`, who
walks and cycles.

Every scene gets at least one object of each of the ten classes close enough to be scored.
"""

from __future__ import annotations

import math

import numpy as np

from pcperc.simulation.driving import street_users as users
from pcperc.simulation.driving import vehicles
from pcperc.simulation.driving.actors import STILL, Actor, Flow, Path
from pcperc.simulation.driving.ground import STOP_LINE
from pcperc.simulation.driving.people import add_person, place_cyclists, place_people
from pcperc.simulation.driving.road import Road

REACH = 105.0  # metres of street on each side with traffic
LENGTH = {"car": 4.9, "truck": 8.2, "bus": 12.0, "trailer": 13.0, "construction_vehicle": 6.6, "motorcycle": 2.3}
MAKER = {
    "car": vehicles.car,
    "truck": vehicles.truck,
    "bus": vehicles.bus,
    "trailer": vehicles.trailer,
    "construction_vehicle": vehicles.construction_vehicle,
}
LANE_MIX = (
    ("car", "truck", "bus", "trailer", "motorcycle", "construction_vehicle"),
    (0.68, 0.11, 0.06, 0.05, 0.08, 0.02),
)
HEAVY = ("truck", "bus", "trailer", "construction_vehicle")


class Traffic:
    """Collects the actors of one scene.

    Attributes:
        actors: what was placed. ego: path of the recording car. occupied: discs (x, y, radius) beside the road that
            the background has to leave free.
    """

    def __init__(self, road: Road, rng: np.random.Generator, *, waiting: bool):
        self.road, self.rng, self.waiting = road, rng, waiting
        self.actors: list[Actor] = []
        self.occupied: list[tuple[float, float, float]] = []
        self.site_side = int(rng.choice((-1, 1)))
        self.site_lane = road.lanes > 1 and self.site_side > 0 and rng.random() < 0.6
        self.must = {name: 1 + int(rng.random() < 0.3) for name in HEAVY + ("motorcycle",)}
        self._choose_ego()
        self._building_site()
        self._parking_strips()
        self._lanes()
        self._carparks()
        self._cross_street()
        place_cyclists(self)
        place_people(self)

    def add(
        self, name: str, path: Path, *, resting: str = "", rider: bool | None = None, shape=None, category: str = ""
    ) -> None:
        """Make an actor of class ``name`` on ``path``."""
        if name in ("bicycle", "motorcycle"):
            shape = getattr(users, name)(self.rng, rider=bool(rider))
            resting = "cycle.with_rider" if rider else "cycle.without_rider"
        elif shape is None:
            shape = MAKER[name](self.rng)
        self.actors.append(Actor(name, shape, path, self.road, resting=resting, category=category))

    def near_junction(self, s: float, margin: float) -> bool:
        """Whether s lies within ``margin`` metres of the cross road's edge."""
        return abs(s - self.road.cross_at) < self.road.cross_half_width + margin

    def _choose_ego(self) -> None:
        rng, road = self.rng, self.road
        self.ego_lane = int(rng.integers(road.lanes))
        mean = 0.0 if self.waiting else float(rng.choice((rng.uniform(2, 6), rng.uniform(6, 11)), p=(0.35, 0.65)))
        flow = Flow(mean, 0.12, 0.5, rng.uniform(0, 6))
        self.target_lane = self.ego_lane
        if road.lanes > 1 and not self.waiting and rng.random() < 0.3:
            self.target_lane = 1 - self.ego_lane if road.lanes == 2 else int(np.clip(self.ego_lane + 1, 0, 1))
        shift = (self.ego_lane - self.target_lane) * road.lane_width
        start = rng.uniform(-1.0, 2.0)
        self.ego = Path(
            "main", 0.0, -(self.ego_lane + 0.5) * road.lane_width, flow=flow, shift=shift, shift_start=start
        )

    def _building_site(self) -> None:
        """A closed strip: barriers along it, cones at its ends, a machine and workers inside."""
        rng, road, side = self.rng, self.road, self.site_side
        length = rng.uniform(16, 30)
        start = rng.uniform(-14, 16 - length / 2)
        if self.near_junction(start + length / 2, length / 2 + 8):
            start = (
                road.cross_at + road.cross_half_width + 9
                if road.cross_at < 0
                else road.cross_at - road.cross_half_width - 9 - length
            )
        self.site = (start - 5, start + length + 5)
        inner = (road.lanes - (1 if self.site_lane else 0)) * road.lane_width + 0.5
        style = 0 if rng.random() < 0.6 else 1
        colours = (users.paint(rng, ((0.6, 0.12, 0.05), (0.8, 0.25, 0.03))), (0.62, 0.62, 0.6))
        step = rng.uniform(2.15, 2.6)
        for i in range(int(length / step)):
            colour = colours[i % 2] if style == 0 else colours[0]
            path = Path(
                "main", start + i * step, side * (inner + rng.normal(0, 0.05)), turn=math.pi / 2 + rng.normal(0, 0.03)
            )
            self.add("barrier", path, shape=users.barrier(rng, style, colour))
        depth = road.half_width - inner - 0.6
        for end, way in ((start - 1.5, -1), (start + length + 1.0, 1)):
            for i in range(int(rng.integers(2, 5))):
                path = Path("main", end + way * i * 0.9, side * (inner + 0.3 + depth * i / 4), turn=rng.uniform(0, 1.5))
                self.add("traffic_cone", path, shape=users.traffic_cone(rng))
        middle = side * (inner + 0.6 + depth / 2)
        self.add(
            "construction_vehicle",
            Path("main", start + length * rng.uniform(0.35, 0.65), middle, way=int(rng.choice((-1, 1)))),
        )
        self.must["construction_vehicle"] -= 1
        for _ in range(int(rng.integers(1, 4))):
            s = start + rng.choice((0.1, 0.85, 0.95)) * length + rng.uniform(-1, 1)
            add_person(self, Path("main", s, middle + rng.uniform(-0.6, 0.6), turn=rng.uniform(0, 6)), worker=True)

    def _parking_strips(self) -> None:
        """Parked vehicles beside the outer lanes; what must be seen stands nearest."""
        rng, road = self.rng, self.road
        d = road.lanes * road.lane_width + 2.6
        wanted = [name for name, count in self.must.items() for _ in range(count)]
        rng.shuffle(wanted)
        for side in (-1, 1):
            queue = wanted[(side + 1) // 2 :: 2]
            start = rng.uniform(-24, -6)
            s, filled = -REACH + rng.uniform(0, 5), rng.uniform(0.1, 0.6)
            while s < REACH:
                name = (
                    queue.pop(0)
                    if queue and s > start
                    else str(rng.choice(("car", "truck", "motorcycle"), p=(0.88, 0.06, 0.06)))
                )
                half = LENGTH[name] / 2
                blocked = self.near_junction(s + half, half + 7) or (
                    side == self.site_side and self.site[0] < s + 2 * half and s < self.site[1]
                )
                forced = s > start and name != "car"
                if blocked:
                    if forced and name in HEAVY + ("motorcycle",):
                        queue.insert(0, name)
                    s += 2.0
                    continue
                if forced or rng.random() < filled:
                    way = -side
                    path = Path("main", s + half, side * (d + rng.normal(0, 0.1)), way=way, turn=rng.normal(0, 0.02))
                    rest = "vehicle.stopped" if name == "bus" or rng.random() < 0.1 else "vehicle.parked"
                    self.add(name, path, resting=rest, rider=False)
                s += 2 * half + rng.uniform(0.7, 2.0)

    def _lanes(self) -> None:
        """Traffic of the main road: each lane flows at its own speed, or queues at the junction."""
        rng, road = self.rng, self.road
        for way in (1, -1):
            for lane in range(road.lanes):
                if way < 0 and self.site_side > 0 and self.site_lane and lane == road.lanes - 1:
                    continue
                own = way > 0 and lane in (self.ego_lane, self.target_lane)
                flow = self.ego.flow if own else Flow(rng.uniform(3, 12), 0.12, 0.5, rng.uniform(0, 6))
                self._fill_lane(way, lane, STILL if self.waiting else flow, 11.0 if own else 0.0)

    def _fill_lane(self, way: int, lane: int, flow: Flow, ego_gap: float) -> None:
        rng, road = self.rng, self.road
        d = -way * (lane + 0.5) * road.lane_width
        gap = rng.uniform(10, 50)
        s = -REACH + rng.uniform(0, 15)
        edge = road.cross_half_width + STOP_LINE + 1.0
        leaving = Flow(rng.uniform(6, 9))
        while s < REACH:
            name = str(rng.choice(LANE_MIX[0], p=LANE_MIX[1]))
            whole = LENGTH[name] + (LENGTH["truck"] if name == "trailer" else 0.0)
            middle = s + whole / 2
            start, stop = s - whole - 3, s + whole + 3
            inside = self.waiting and road.cross_at - edge < s + whole and s < road.cross_at + edge
            blocked = inside or (ego_gap > 0 and start < ego_gap and stop > -ego_gap)
            if not blocked:
                moving = flow
                if self.waiting and (middle - road.cross_at) * way > 0:
                    moving = leaving if (middle - road.cross_at) * way > 35 else STILL
                offset = d + rng.normal(0, 0.12)
                self._drive(name, way, s, whole, offset, moving)
            s += whole + (rng.uniform(1.5, 4) if self.waiting else gap * rng.uniform(0.4, 1.6))

    def _drive(self, name: str, way: int, s: float, whole: float, d: float, flow: Flow) -> None:
        """Put a vehicle in a lane; a trailer comes with the lorry that pulls it."""
        middle = s + whole / 2
        if name == "trailer":
            front, back = middle + way * LENGTH["trailer"] / 2, middle - way * LENGTH["truck"] / 2
            self.add("truck", Path("main", front, d, way, flow), resting="vehicle.stopped")
            self.add("trailer", Path("main", back, d, way, flow), resting="vehicle.stopped")
            return
        self.add(name, Path("main", middle, d, way, flow), resting="vehicle.stopped", rider=True)

    def _carparks(self) -> None:
        """Parked vehicles in bays, at times a long one along the far side."""
        rng = self.rng
        for x, y, half_length, half_width, yaw in self.road.carparks:
            c, k = math.cos(yaw), math.sin(yaw)
            filled = rng.uniform(0.25, 0.75)
            for row in (-1, 1):
                along = -half_length + 1.35
                while along < half_length - 1.3:
                    name = str(
                        rng.choice(("car", "truck", "trailer", "construction_vehicle"), p=(0.9, 0.05, 0.03, 0.02))
                    )
                    aside = row * (half_width - max(2.6, LENGTH[name] / 2 + 0.2))
                    if rng.random() < filled and (name == "car" or row > 0):
                        turn = yaw + rng.choice((-1, 1)) * math.pi / 2 + rng.normal(0, 0.03)
                        place = Path("place", x + c * along - k * aside, y + k * along + c * aside, turn=turn)
                        self.add(name, place, resting="vehicle.parked")
                    along += 2.7 if name == "car" else 5.4

    def _cross_street(self) -> None:
        """Queues at the stop lines of the cross road, or through traffic while the main road waits."""
        rng, road = self.rng, self.road
        for way in (1, -1):
            for lane in range(road.cross_lanes):
                d = -way * (lane + 0.5) * road.lane_width
                flow = Flow(rng.uniform(5, 9)) if self.waiting else STILL
                s = -(road.half_width + STOP_LINE + 1.2) if not self.waiting else rng.uniform(-60, 10)
                for _ in range(int(rng.integers(0, 4))):
                    name = str(rng.choice(LANE_MIX[0], p=(0.77, 0.11, 0.04, 0.0, 0.08, 0.0)))
                    s -= LENGTH[name] / 2
                    self.add(name, Path("cross", way * s, d, way, flow), resting="vehicle.stopped", rider=True)
                    s -= LENGTH[name] / 2 + rng.uniform(1.2, 9)
