# SPDX-License-Identifier: Apache-2.0
"""One scene's world: streets, background, actors, light, and the ego car's motion, all drawn from one seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pcperc.geometry import rigid_matrix
from pcperc.simulation.driving.actors import Actor, Path
from pcperc.simulation.driving.background import furnish
from pcperc.simulation.driving.ground import CURB_HEIGHT, PAVEMENT_WIDTH, STOP_LINE
from pcperc.simulation.driving.road import Road
from pcperc.simulation.driving.shapes import Primitives
from pcperc.simulation.driving.traffic import Traffic


@dataclass(frozen=True)
class Light:
    """Weather of a scene: direction to the sun (3,), its strength and that of the sky (linear), haze in 1/m, clouds
    and the camera's exposure."""

    sun: np.ndarray
    strength: float
    ambient: float
    haze: float
    clouds: float
    exposure: float

    def table(self) -> np.ndarray:
        """Return the eight numbers that the compiled painter takes."""
        return np.array([*self.sun, self.strength, self.ambient, self.haze, self.clouds, self.exposure])


@dataclass(frozen=True)
class World:
    """Everything there is in a scene; times are seconds from its first sample."""

    road: Road
    background: Primitives
    actors: list[Actor]
    ego: Path
    sway: np.ndarray
    light: Light
    seed: int

    def ego_pose(self, t: float) -> np.ndarray:
        """Return ego2global (4, 4) at time t: the rear axle on the ground, pitching and rolling a little."""
        x, y, yaw = self.ego.pose(self.road, t)
        roll = self.sway[0] * math.sin(1.7 * t + self.sway[2])
        pitch = self.sway[1] * math.sin(1.3 * t + self.sway[3])
        cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
        turn_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        turn_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        turn_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
        return rigid_matrix((x, y, 0.0), turn_z @ turn_y @ turn_x)

    def primitives(self, t: float) -> Primitives:
        """Return background and actors at time t; ``owner`` is the index of the actor, -1 for background."""
        moved = [actor.primitives(t, index) for index, actor in enumerate(self.actors)]
        return Primitives.concatenate([self.background, *moved])


def _carparks(road: Road, rng: np.random.Generator) -> np.ndarray:
    """Lay out up to two car parks beside the main road."""
    lots = []
    for side in (-1, 1):
        if rng.random() < 0.45:
            half_length, half_width = rng.uniform(9, 17), rng.uniform(7.5, 9)
            away = road.cross_half_width + 16 + half_length
            options = [
                s
                for s in (rng.uniform(-45, 45), road.cross_at - away, road.cross_at + away)
                if abs(s - road.cross_at) >= away
            ]
            x, y, yaw = road.to_world(options[0], side * (road.half_width + PAVEMENT_WIDTH + 4 + half_width))
            # The row next to the road opens first: (x, y) frame with +y away from the road.
            turn = 0.0 if side > 0 else math.pi
            lots.append((float(x), float(y), half_length, half_width, float(yaw) + turn))
    return np.array(lots, np.float64).reshape(-1, 5)


def make_light(rng: np.random.Generator) -> Light:
    azimuth, height = rng.uniform(0, 2 * math.pi), rng.uniform(0.35, 1.2)
    clouds = rng.uniform(0, 1)
    sun = np.array([math.cos(height) * math.cos(azimuth), math.cos(height) * math.sin(azimuth), math.sin(height)])
    return Light(
        sun,
        1.15 * (1 - 0.75 * clouds),
        0.45 + 0.35 * clouds,
        rng.uniform(0.0008, 0.0028),
        clouds,
        rng.uniform(0.65, 1.0),
    )


def _disc_of(actor: Actor) -> tuple[float, float, float]:
    x, y, _, _ = actor.pose(0.0)
    return x, y, 0.5 * math.hypot(actor.size[0], actor.size[1])


def build_world(seed: int, scene: int, *, x: float, y: float) -> World:
    """Draw the world of a scene.

    Args:
        seed, scene: together they fix every detail; nothing else does.
        x, y: where the ego car is at t = 0 along the road, world metres.
    """
    rng = np.random.default_rng([seed, scene, 1])
    waiting = bool(rng.random() < 0.15)
    lanes, cross_lanes = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    bends = np.where(rng.random(2) < 0.6, rng.uniform(-1, 1, 2) / 130, 0.0)
    width = rng.uniform(3.2, 3.7)
    cross_at = (
        cross_lanes * width + STOP_LINE + 4.6
        if waiting
        else float(rng.choice((rng.uniform(-45, -18), rng.uniform(22, 65))))
    )
    if waiting and rng.random() < 0.5:
        cross_at += 8.0  # one more car before the stop line
    heading = rng.uniform(-math.pi, math.pi)
    road = Road(x, y, heading, bends[0], bends[1], lanes, width, 4.0, cross_at, cross_lanes, float(rng.uniform(0, 1)))
    road = Road(**{**road.__dict__, "carparks": _carparks(road, rng)})
    traffic = Traffic(road, rng, waiting=waiting)
    resting = [a for a in traffic.actors if a.fixed_height == CURB_HEIGHT]
    discs = [_disc_of(a) for a in resting]
    background = furnish(road, rng, urban=float(rng.uniform(0, 1)), occupied=discs)
    sway = np.concatenate([rng.uniform(0.001, 0.006, 2), rng.uniform(0, 6, 2)])
    return World(road, background, traffic.actors, traffic.ego, sway, make_light(rng), int(rng.integers(1 << 30)))
