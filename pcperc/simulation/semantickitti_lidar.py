# SPDX-License-Identifier: Apache-2.0
"""A spinning LiDAR of 64 beams, after the HDL-64E of KITTI: the echoes of one turn, each with the label of what it met.

The scan is that of one instant, as KITTI's odometry scans are after the car's own motion is taken out of them. Firings
without an echo leave no row.
"""

from __future__ import annotations

import math

import numpy as np

from pcperc.simulation.driving import labels
from pcperc.simulation.driving.ground import ASPHALT, CARPARK, CURB, PAVEMENT, VERGE, WHITE, YELLOW
from pcperc.simulation.driving.lidar import cast
from pcperc.simulation.driving.road import Road
from pcperc.simulation.driving.shapes import CABIN, GLASS, REFLECTIVITY_MEDIAN, REFLECTIVITY_SPREAD, Primitives, Shape

# Two blocks of 32 beams, upwards: the lower one in steps of 1/2 degree, the upper one of 1/3.
ELEVATION_DEG = np.concatenate([np.linspace(-24.8, -8.83, 32), np.linspace(-8.33, 2.0, 32)])
COLUMNS = 2083  # at 10 turns a second
RANGE_NOISE = 0.02
NEAREST, FARTHEST = 2.0, 80.0
NOMINAL_REACH = 95.0  # of a surface of 20 % that is met straight on: half of the firings echo
GLASS_ECHO = 0.4
LOST = 0.02  # share of firings that get no echo for no reason
DIM = 0.2  # share of echoes whose remission comes out too low, whatever they come from
GRAIN = 0.7  # metres of ground of one reflectivity

# The roof that the sensor stands on, in its frame: it hides the ground behind and before the car from the lowest beams.
ROOF_X, ROOF_Y, ROOF_DROP = (-0.72, 0.6), (-0.5, 0.5), 0.26

_GROUND = np.full(8, labels.UNLABELED)
_GROUND[[ASPHALT, PAVEMENT, VERGE, CARPARK, WHITE, YELLOW, CURB]] = (
    *(labels.ROAD, labels.SIDEWALK, labels.TERRAIN, labels.PARKING),
    *(labels.LANE_MARKING, labels.LANE_MARKING, labels.SIDEWALK),
)


def beam_directions(columns: int) -> np.ndarray:
    """Return the unit directions (columns, 64, 3) float64: x forward, y left, z up; clockwise, each column upwards."""
    azimuth = -(np.arange(columns) + 0.5) * (2 * np.pi / columns)
    elevation = np.radians(ELEVATION_DEG)
    flat = np.cos(elevation)
    return np.stack(
        [np.cos(azimuth)[:, None] * flat, np.sin(azimuth)[:, None] * flat, np.tile(np.sin(elevation), (columns, 1))], -1
    )


def scan(
    primitives: Primitives,
    streets: Road,
    actor_labels: np.ndarray,
    lidar2global: np.ndarray,
    rng: np.random.Generator,
    *,
    columns: int = COLUMNS,
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate one turn.

    Args:
        primitives: the world at the time of the turn. actor_labels: (A,) the label of each owner.
        lidar2global: (4, 4). rng: noise of this turn. columns: firings of each beam.
    Returns:
        points (N, 4) float32 ``[x, y, z, remission]`` in the sensor's frame, the highest beam first and each
        counter-clockwise, and labels (N,) uint32 as in a label file.
    """
    directions, yaw = beam_directions(columns), math.atan2(lidar2global[1, 0], lidar2global[0, 0])
    primitives = Primitives.concatenate([primitives, _roof().place(*lidar2global[:3, 3], yaw)])
    distance, hit, slant, ground = cast(
        primitives.geometry, primitives.kind, primitives.material, directions, np.radians(ELEVATION_DEG),
        -math.pi / columns, np.ascontiguousarray(lidar2global), streets.table(), streets.carparks,
        int(rng.integers(1 << 30)),
    )  # fmt: skip
    on_ground, which = hit == -1, np.maximum(hit, 0)
    world = directions @ lidar2global[:3, :3].T * np.where(distance < 1e3, distance, 0.0)[..., None]
    shine = np.where(on_ground, _ground_reflectivity(world + lidar2global[:3, 3]), primitives.reflectivity[which])
    clear = np.isin(primitives.material, (GLASS, CABIN))[which] & (hit >= 0)
    echo = _echoes(distance, shine, slant, rng) & (~clear | (rng.random(hit.shape) < GLASS_ECHO))
    noisy = distance + RANGE_NOISE * rng.standard_normal(distance.shape)
    # The sensor's own calibration takes range and slant out of the remission; hundredths, as KITTI's files have it.
    level = 0.3 * np.sqrt(shine / REFLECTIVITY_MEDIAN) * np.exp(0.15 * rng.standard_normal(distance.shape))
    level *= np.where(rng.random(distance.shape) < DIM, rng.random(distance.shape), 1.0)
    remission = np.clip(np.round(level, 2), 0.0, 0.99)

    owner = primitives.owner[which]
    label = np.where(owner >= 0, actor_labels[np.maximum(owner, 0)], primitives.label[which])
    label = np.where(on_ground, _GROUND[ground], label)
    points = np.concatenate([directions * noisy[..., None], remission[..., None]], -1).astype(np.float32)
    order = (slice(None, None, -1), slice(None, None, -1))  # beams from the top, columns counter-clockwise
    echo, points, label = echo.T[order], points.transpose(1, 0, 2)[order], label.T[order]
    return points[echo], label[echo].astype("<u4")


def _roof() -> Primitives:
    """Return the recording car's roof in the sensor's frame; what meets it is too close to echo."""
    shape = Shape(np.random.default_rng(0))
    (x0, x1), (y0, y1) = ROOF_X, ROOF_Y
    shape.box((x0 + x1) / 2, (y0 + y1) / 2, -ROOF_DROP - 0.1, x1 - x0, y1 - y0, 0.1, (0.0, 0.0, 0.0))
    return shape.build()


def _echoes(distance: np.ndarray, shine: np.ndarray, slant: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return which firings are answered: the power falls with range and slant, the reach with its root."""
    reach = NOMINAL_REACH * (shine / REFLECTIVITY_MEDIAN) ** 0.25 * slant**0.15
    chance = (1 - LOST) / (1 + np.exp(np.clip((distance - reach) / (0.15 * reach), -50, 50)))
    return (distance > NEAREST) & (distance < FARTHEST) & (rng.random(distance.shape) < chance)


def _ground_reflectivity(world: np.ndarray) -> np.ndarray:
    """Draw the reflectivity of every patch of ground from the distribution that things have, so that it tells no class.

    A patch keeps its value for all scans of a sequence: it is hashed from its place.
    """
    cell = np.floor(world[..., :2] / GRAIN).astype(np.int64).astype(np.uint64)
    mixed = cell[..., 0] * np.uint64(0x9E3779B97F4A7C15) ^ cell[..., 1] * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    first = (mixed >> np.uint64(11) & np.uint64(0xFFFFF)).astype(np.float64)
    second = (mixed >> np.uint64(37) & np.uint64(0xFFFFF)).astype(np.float64)
    normal = np.sqrt(-2 * np.log((first + 1) / (1 << 20))) * np.cos(2 * math.pi * second / (1 << 20))
    return np.minimum(REFLECTIVITY_MEDIAN * np.exp(REFLECTIVITY_SPREAD * normal), 1.0)
