# SPDX-License-Identifier: Apache-2.0
"""A spinning LiDAR of 32 beams: first returns of every firing, drop-out, range noise and intensity.

The sensor follows the HDL-32E as nuScenes records it: 1084 columns a turn, clockwise, beams from -30.67 to +10.67
degrees, a row written for every firing. A firing without an echo is written close to the origin, as in the real files.
"""

from __future__ import annotations

import math

import numpy as np

from pcperc.simulation.driving.ground import OFF, WHITE, YELLOW, ground_hit
from pcperc.simulation.driving.intersect import FRUSTUM, MISS, hash_unit, intersect, normal_at
from pcperc.simulation.driving.road import Road
from pcperc.simulation.driving.shapes import CABIN, FOLIAGE, GLASS, Primitives
from pcperc.simulation.driving.vehicles import ego_body
from pcperc.simulation.jit import cached_njit

COLUMNS, BEAMS = 1084, 32
ELEVATION_DEG = np.linspace(-30.667, 10.667, BEAMS)
FIRST_AZIMUTH_DEG = -172.0  # of the sensor's frame; columns then run clockwise
RANGE_NOISE = 0.015
MAX_RANGE, NOMINAL_REACH = 105.0, 90.0
GLASS_ECHO = 0.4
LOST = 0.012  # share of firings that get no echo for no reason
GROUND, NOTHING = -1, -2


def beam_directions() -> np.ndarray:
    """Return the unit directions (COLUMNS, BEAMS, 3) float64 in the sensor's frame, in firing order."""
    azimuth = np.radians(FIRST_AZIMUTH_DEG) - np.arange(COLUMNS) * (2 * np.pi / COLUMNS)
    elevation = np.radians(ELEVATION_DEG)
    flat = np.cos(elevation)[None]
    return np.stack(
        np.broadcast_arrays(np.cos(azimuth)[:, None] * flat, np.sin(azimuth)[:, None] * flat, np.sin(elevation)[None]),
        -1,
    ).astype(np.float64)


@cached_njit
def _window(g, kind, pose, columns, elevation, first):
    """Return the columns and beams that can meet a primitive: (first column, how many, first beam, last beam)."""
    hx, hy, hz = g[3], g[4], g[5]
    if kind == FRUSTUM:
        hx = hy = max(g[3], g[4])
    px, py = pose[0, 3] - g[0], pose[1, 3] - g[1]
    inside = math.hypot(px, py) < math.hypot(hx, hy) + 0.5
    mx, my, mz = g[0] - pose[0, 3], g[1] - pose[1, 3], g[2] - pose[2, 3]
    cx = pose[0, 0] * mx + pose[1, 0] * my + pose[2, 0] * mz
    cy = pose[0, 1] * mx + pose[1, 1] * my + pose[2, 1] * mz
    middle = math.atan2(cy, cx)
    least, most, bottom, top = 0.0, 0.0, 1e9, -1e9
    near = max(math.hypot(cx, cy) - math.hypot(hx, hy), 0.05)
    far = math.hypot(cx, cy) + math.hypot(hx, hy)
    for corner in range(8):
        lx = hx if corner & 1 else -hx
        ly = hy if corner & 2 else -hy
        lz = hz if corner & 4 else -hz
        wx, wy, wz = mx + g[6] * lx - g[7] * ly, my + g[7] * lx + g[6] * ly, mz + lz
        sx = pose[0, 0] * wx + pose[1, 0] * wy + pose[2, 0] * wz
        sy = pose[0, 1] * wx + pose[1, 1] * wy + pose[2, 1] * wz
        sz = pose[0, 2] * wx + pose[1, 2] * wy + pose[2, 2] * wz
        turn = math.atan2(sy, sx) - middle
        turn -= 2 * math.pi * math.floor((turn + math.pi) / (2 * math.pi))
        least, most = min(least, turn), max(most, turn)
        bottom, top = min(bottom, sz), max(top, sz)
    lowest = math.atan2(bottom, near if bottom < 0 else far)
    highest = math.atan2(top, near if top > 0 else far)
    b0 = max(np.searchsorted(elevation, lowest) - 1, 0)
    b1 = min(np.searchsorted(elevation, highest), len(elevation) - 1)
    if inside:
        return 0, columns, b0, b1
    turn = 2 * math.pi / columns
    c0 = int(math.floor((first - (middle + most)) / turn))
    c1 = int(math.ceil((first - (middle + least)) / turn))
    return c0, min(c1 - c0 + 1, columns), b0, b1


@cached_njit
def cast(geometry, kind, material, directions, elevation, first, pose, road, carparks, seed):
    """Find what every firing meets first.

    Each primitive is tried only against the firings of its window, so the cost follows what is seen of it.

    Args:
        directions: (C, B, 3) unit vectors in the sensor's frame; the columns run clockwise in equal steps from azimuth
            ``first``, the beams of each upwards at ``elevation`` (B,), radians.
    Returns:
        distance (C, B) in metres (``MISS`` for none), hit (C, B) index of the primitive, GROUND or NOTHING, and
        slant (C, B): cosine of the angle between beam and surface normal; ground (C, B): kind of ground.
    """
    columns, beams = directions.shape[0], directions.shape[1]
    distance = np.full((columns, beams), MISS)
    hit = np.full((columns, beams), NOTHING, np.int64)
    slant = np.ones((columns, beams))
    ground = np.full((columns, beams), OFF, np.int64)
    world = np.empty((columns, beams, 3))
    ox, oy, oz = pose[0, 3], pose[1, 3], pose[2, 3]
    for i in range(columns):
        for j in range(beams):
            for k in range(3):
                world[i, j, k] = (
                    pose[k, 0] * directions[i, j, 0]
                    + pose[k, 1] * directions[i, j, 1]
                    + pose[k, 2] * directions[i, j, 2]
                )
            dx, dy, dz = world[i, j, 0], world[i, j, 1], world[i, j, 2]
            t, what, steep = ground_hit(road, carparks, ox, oy, oz, dx, dy, dz)
            if t < MAX_RANGE:
                distance[i, j], hit[i, j], ground[i, j] = t, GROUND, what
                slant[i, j] = 0.7 if steep > 0.0 else -dz
    for p in range(geometry.shape[0]):
        g = geometry[p]
        c0, count, b0, b1 = _window(g, kind[p], pose, columns, elevation, first)
        for step in range(count):
            i = (c0 + step) % columns
            for j in range(b0, b1 + 1):
                t, out, face = intersect(kind[p], g, ox, oy, oz, world[i, j, 0], world[i, j, 1], world[i, j, 2])
                if t >= distance[i, j]:
                    continue
                if g[11] > 0.0:
                    if hash_unit(seed + p, i, j) < g[11]:
                        continue
                    if material[p] == FOLIAGE:  # leaves are met inside the crown, most often near its surface
                        depth = hash_unit(seed - p, i, j)
                        t += 0.9 * (out - t) * depth * depth
                        if t >= distance[i, j]:
                            continue
                distance[i, j], hit[i, j] = t, p
                if material[p] == FOLIAGE:
                    slant[i, j] = 0.6
                else:
                    wx, wy, wz = world[i, j, 0], world[i, j, 1], world[i, j, 2]
                    nx, ny, nz, _, _, _ = normal_at(kind[p], g, face, ox + t * wx, oy + t * wy, oz + t * wz)
                    slant[i, j] = abs(nx * wx + ny * wy + nz * wz)
    return distance, hit, slant, ground


def measure(distance, reflectivity, slant, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn distances into what the receiver reports.

    Args:
        distance, reflectivity, slant: arrays of one shape; infinite distance where there is nothing.
    Returns:
        noisy range, intensity 0..255, and whether there is an echo.
    """
    # Echo power falls with the square of the range and with the slant; the reach follows its square root.
    reach = NOMINAL_REACH * np.sqrt(reflectivity / 0.2) * slant**0.3
    weak = 1.0 / (1.0 + np.exp(np.clip((distance - reach) / (0.06 * reach + 0.5), -50, 50)))
    echo = (distance < MAX_RANGE) & (rng.random(distance.shape) < weak * (1 - LOST))
    noisy = distance + RANGE_NOISE * rng.standard_normal(distance.shape)
    level = 115.0 * reflectivity * (0.35 + 0.65 * slant) * np.exp(0.35 * rng.standard_normal(distance.shape))
    return noisy, np.clip(np.floor(level + rng.random(distance.shape) * 2), 0, 255), echo


def scan(
    primitives: Primitives, road: Road, lidar2global: np.ndarray, ego2global: np.ndarray, rng: np.random.Generator
):
    """Simulate one sweep.

    Args:
        primitives: the world at the sweep's time. lidar2global, ego2global: (4, 4).
        rng: noise of this sweep.
    Returns:
        points (COLUMNS * BEAMS, 5) float32 ``[x, y, z, intensity, ring]`` in the sensor's frame, firing order, and
        owner (COLUMNS * BEAMS,) int64: index of the actor, -1 background or ground, -2 no echo.
    """
    yaw = math.atan2(ego2global[1, 0], ego2global[0, 0])
    body = ego_body().place(ego2global[0, 3], ego2global[1, 3], ego2global[2, 3], yaw)
    everything = Primitives.concatenate([primitives, body])
    directions = beam_directions()
    distance, hit, slant, ground = cast(
        everything.geometry, everything.kind, everything.material, directions, np.radians(ELEVATION_DEG),
        math.radians(FIRST_AZIMUTH_DEG), np.ascontiguousarray(lidar2global), road.table(), road.carparks,
        int(rng.integers(1 << 30)),
    )  # fmt: skip
    shine = np.where(hit >= 0, everything.reflectivity[np.maximum(hit, 0)], 0.16)
    shine = np.where((ground == WHITE) | (ground == YELLOW), np.where(hit == GROUND, 0.5, shine), shine)
    noisy, intensity, echo = measure(distance, shine, slant, rng)
    clear = np.isin(everything.material, (GLASS, CABIN))[np.maximum(hit, 0)] & (hit >= 0)
    echo &= ~clear | (rng.random(hit.shape) < GLASS_ECHO)
    points = np.empty((COLUMNS, BEAMS, 5), np.float32)
    points[..., :3] = directions * np.where(echo, noisy, 0.0)[..., None]
    points[..., 3], points[..., 4] = np.where(echo, intensity, 0.0), np.arange(BEAMS)
    _write_missing(points, ~echo, rng)
    owner = np.where(hit >= 0, everything.owner[np.maximum(hit, 0)], -1)
    return points.reshape(-1, 5), np.where(echo, owner, -2).reshape(-1)


def _write_missing(points: np.ndarray, missing: np.ndarray, rng: np.random.Generator) -> None:
    """Put firings without an echo where the real files have them: behind the sensor, within 0.4 m, at its height."""
    count = int(missing.sum())
    reach, azimuth = rng.uniform(0.02, 0.36, count), np.radians(rng.uniform(-120, -90, count))
    points[missing, 0], points[missing, 1] = reach * np.cos(azimuth), reach * np.sin(azimuth)
    points[missing, 2], points[missing, 3] = -0.03 * reach, rng.integers(2, 40, count)


__all__ = ["beam_directions", "cast", "measure", "scan"]
