# SPDX-License-Identifier: Apache-2.0
"""Actors: a shape, a class of nuScenes, and a path along the streets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pcperc.simulation.driving.road import Road
from pcperc.simulation.driving.shapes import Primitives

# Annotators leave a little air around an object; range noise (2 cm) then stays inside the box.
BOX_MARGIN = 0.04

CATEGORY = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "bus": "vehicle.bus.rigid",
    "trailer": "vehicle.trailer",
    "construction_vehicle": "vehicle.construction",
    "pedestrian": "human.pedestrian.adult",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "barrier": "movable_object.barrier",
    "traffic_cone": "movable_object.trafficcone",
}


@dataclass(frozen=True)
class Flow:
    """Speed over time that all vehicles of a lane share, so that they never run into each other.

    speed(t) = mean * (1 + swing * cos(rate * t + phase)), metres per second.
    """

    mean: float
    swing: float = 0.0
    rate: float = 0.5
    phase: float = 0.0

    def distance(self, t: float) -> float:
        """Metres travelled since t = 0."""
        wave = (math.sin(self.rate * t + self.phase) - math.sin(self.phase)) / self.rate
        return self.mean * (t + self.swing * wave)

    def speed(self, t: float) -> float:
        """Metres per second at t."""
        return self.mean * (1 + self.swing * math.cos(self.rate * t + self.phase))


STILL = Flow(0.0)


@dataclass(frozen=True)
class Path:
    """Where something is over time.

    Attributes:
        street: "main" or "cross": (s, d) are along that road; "place": s, d are world x, y and never change.
        s, d: at t = 0. way: +1 or -1 along s.
        flow: metres along s over time. drift: metres per second along d (people who cross the road).
        turn: heading relative to the direction of travel (or to +x of the world for "place").
        shift, shift_start, shift_time: a change of lane by ``shift`` metres of d, smooth, from shift_start on.
    """

    street: str
    s: float
    d: float
    way: int = 1
    flow: Flow = STILL
    drift: float = 0.0
    turn: float = 0.0
    shift: float = 0.0
    shift_start: float = 0.0
    shift_time: float = 4.0

    def road_position(self, t: float) -> tuple[float, float, float]:
        """Return s, d and the angle to the road at time t (seconds)."""
        part = min(max((t - self.shift_start) / self.shift_time, 0.0), 1.0)
        side = self.shift * part * part * (3 - 2 * part)
        side_speed = self.shift * 6 * part * (1 - part) / self.shift_time
        s = self.s + self.way * self.flow.distance(t)
        d = self.d + self.drift * t + side
        along, across = self.way * self.flow.speed(t), self.drift + side_speed
        if abs(along) + abs(across) < 1e-6:
            angle = 0.0 if self.way > 0 else math.pi
        else:
            angle = math.atan2(across, along)
        return s, d, angle + self.turn

    def pose(self, road: Road, t: float) -> tuple[float, float, float]:
        """Return world x, y and yaw at time t (seconds)."""
        if self.street == "place":
            return self.s, self.d, self.turn
        s, d, angle = self.road_position(t)
        x, y, heading = (road.to_world if self.street == "main" else road.cross_to_world)(s, d)
        return float(x), float(y), float(heading) + angle

    def speed(self, t: float) -> float:
        """Metres per second at t."""
        return math.hypot(self.flow.speed(t), self.drift)


class Actor:
    """Something that is annotated.

    The shape is moved so that its tight box, plus ``BOX_MARGIN``, has its centre over the origin.

    Attributes:
        name: class of the detection task. size: (l, w, h). resting: attribute while it does not move.
    """

    def __init__(self, name: str, shape: Primitives, path: Path, road: Road, *, resting: str = "", category: str = ""):
        self.name, self.path, self.road, self.resting = name, path, road, resting
        self.category = category or CATEGORY[name]
        low, high = shape.extent()
        self.size = tuple(np.maximum(high - low, 0.02) + BOX_MARGIN)
        centre = (low + high) / 2
        self.shape = shape.place(-centre[0], -centre[1], -low[2], 0.0)
        x, y, _ = path.pose(road, 0.0)
        # People who cross step off the curb at the edge of the road; everything else stays on its level.
        self.fixed_height = road.height(x, y) if path.drift == 0.0 and path.flow.mean == 0.0 else None

    def pose(self, t: float) -> tuple[float, float, float, float]:
        """Return x, y, z of the ground below and yaw at time t (seconds)."""
        x, y, yaw = self.path.pose(self.road, t)
        z = self.road.height(x, y) if self.fixed_height is None else self.fixed_height
        return x, y, z, yaw

    def box(self, t: float) -> np.ndarray:
        """Return the annotation (7,) ``[x, y, z, l, w, h, yaw]`` in the world, z at the centre of gravity."""
        x, y, z, yaw = self.pose(t)
        middle = z + (self.size[2] - BOX_MARGIN) / 2
        return np.array([x, y, middle, *self.size, math.remainder(yaw, 2 * math.pi)])

    def primitives(self, t: float, owner: int) -> Primitives:
        """Return its primitives in the world at time t."""
        return self.shape.place(*self.pose(t), owner)

    def attribute(self, t: float) -> str:
        """Return the nuScenes attribute at time t, "" where the class has none."""
        if self.name in ("barrier", "traffic_cone"):
            return ""
        if self.name in ("bicycle", "motorcycle"):
            return self.resting
        moving = self.path.speed(t) > 0.3
        if self.name == "pedestrian":
            return "pedestrian.moving" if moving else self.resting or "pedestrian.standing"
        return "vehicle.moving" if moving else self.resting or "vehicle.parked"
