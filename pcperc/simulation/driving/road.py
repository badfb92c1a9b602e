# SPDX-License-Identifier: Apache-2.0
"""The streets of a scene: a main road of two arcs, a cross road, pavements and car parks.

A place on a road is (s, d): metres along it and metres to the left of its centre line. Traffic keeps right.
Everything is analytic, so cameras, LiDAR, traffic and map agree to the millimetre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from pcperc.simulation.driving.ground import CURB_HEIGHT, ground_kind, ground_rise


@dataclass(frozen=True)
class Road:
    """Geometry of the streets around one scene.

    Attributes:
        x, y, heading: where the main road passes s = 0, world metres and radians.
        bend_before, bend_after: curvature in 1/m for s < 0 and s > 0; positive bends left.
        lanes: lanes in each direction; lane_width in metres; shoulder: the parking strip beside the last lane.
        cross_at: s of the junction; cross_lanes: lanes of the cross road in each direction.
        carparks: (n, 5) x, y, half length, half width, yaw.
        grass: what the verge is made of, 0 paving .. 1 grass.
        relief: metres by which the verge rises behind the pavement, in gentle waves; 0 is flat. relief_phase: of the
            waves, radians.
    """

    x: float
    y: float
    heading: float
    bend_before: float
    bend_after: float
    lanes: int
    lane_width: float
    shoulder: float
    cross_at: float
    cross_lanes: int
    grass: float = 1.0
    relief: float = 0.0
    relief_phase: float = 0.0
    carparks: np.ndarray = field(default_factory=lambda: np.zeros((0, 5)))

    @property
    def half_width(self) -> float:
        """Centre line to curb of the main road."""
        return self.lanes * self.lane_width + self.shoulder

    @property
    def cross_half_width(self) -> float:
        """Centre line to curb of the cross road."""
        return self.cross_lanes * self.lane_width + 0.4

    def table(self) -> np.ndarray:
        """Return the numbers that the compiled functions take, (19,) float64."""
        cross = self.to_world(self.cross_at, 0.0)
        return np.array(
            [self.x, self.y, math.cos(self.heading), math.sin(self.heading), self.bend_before, self.bend_after]
            + [self.lanes, self.lane_width, self.half_width, self.cross_at, self.cross_half_width]
            + [cross[0], cross[1], math.cos(cross[2]), math.sin(cross[2]), self.grass, self.cross_lanes]
            + [self.relief, self.relief_phase]
        )

    def to_world(self, s, d):
        """Return x, y and the heading of the road at (s, d); numbers or arrays."""
        s, d = np.asarray(s, np.float64), np.asarray(d, np.float64)
        bend = np.where(s < 0, self.bend_before, self.bend_after)
        angle = s * bend
        safe = np.where(np.abs(bend) < 1e-9, 1.0, bend)
        forward = np.where(np.abs(bend) < 1e-9, s, np.sin(angle) / safe) - d * np.sin(angle)
        left = np.where(np.abs(bend) < 1e-9, 0.0, (1 - np.cos(angle)) / safe) + d * np.cos(angle)
        c, k = math.cos(self.heading), math.sin(self.heading)
        return self.x + c * forward - k * left, self.y + k * forward + c * left, self.heading + angle

    def cross_to_world(self, s, d):
        """Like ``to_world`` for the cross road, which runs from right (s < 0) to left (s > 0) of the main road."""
        x, y, heading = self.to_world(self.cross_at, 0.0)
        heading = heading + np.pi / 2
        s, d = np.asarray(s, np.float64), np.asarray(d, np.float64)
        return x + np.cos(heading) * s - np.sin(heading) * d, y + np.sin(heading) * s + np.cos(heading) * d, heading

    def height(self, x: float, y: float) -> float:
        """Ground height at a world point."""
        edge = ground_kind(self.table(), self.carparks, float(x), float(y))[1]
        return 0.0 if edge <= 0.0 else CURB_HEIGHT + self.rise(x, y)

    def rise(self, x: float, y: float) -> float:
        """Metres that the ground at a world point lies above the pavement; 0 on and beside the streets."""
        return float(ground_rise(self.table(), self.carparks, float(x), float(y)))
