# SPDX-License-Identifier: Apache-2.0
"""Which primitive each pixel of a camera sees: each is tried only within its outline on the image, nearest first."""

from __future__ import annotations

import math

import numpy as np

from pcperc.simulation.driving.intersect import ELLIPSOID, FRUSTUM, MISS, intersect, normal_at, value_noise
from pcperc.simulation.driving.shapes import FOLIAGE, Primitives
from pcperc.simulation.jit import cached_njit

NEAR = 0.15


@cached_njit
def _outline(g, kind, camera, intrinsics, height, width):
    """Return the pixel rectangle (u0, u1, v0, v1) that covers a primitive and its least depth; empty: u1 < u0."""
    hx, hy, hz = g[3], g[4], g[5]
    if kind == FRUSTUM:
        hx = hy = max(g[3], g[4])
    corner = np.empty((8, 3))
    least = MISS
    for k in range(8):
        lx = hx if k & 1 else -hx
        ly = hy if k & 2 else -hy
        lz = hz if k & 4 else -hz
        wx, wy, wz = g[0] + g[6] * lx - g[7] * ly, g[1] + g[7] * lx + g[6] * ly, g[2] + lz
        for i in range(3):
            corner[k, i] = camera[i, 0] * wx + camera[i, 1] * wy + camera[i, 2] * wz + camera[i, 3]
        least = min(least, corner[k, 2])
    u0, u1, v0, v1 = MISS, -MISS, MISS, -MISS
    for k in range(8):
        for bit in (0, 1, 2, 4):  # the corner itself, then the edges from it that cross the near plane
            other = k ^ bit
            x, y, z = corner[k, 0], corner[k, 1], corner[k, 2]
            if bit == 0:
                if z < NEAR:
                    continue
            else:
                if (z < NEAR) == (corner[other, 2] < NEAR):
                    continue
                part = (NEAR - z) / (corner[other, 2] - z)
                x, y, z = x + part * (corner[other, 0] - x), y + part * (corner[other, 1] - y), NEAR
            u = intrinsics[0, 0] * x / z + intrinsics[0, 2]
            v = intrinsics[1, 1] * y / z + intrinsics[1, 2]
            u0, u1, v0, v1 = min(u0, u), max(u1, u), min(v0, v), max(v1, v)
    if u1 < -0.5 or v1 < -0.5 or u0 > width or v0 > height or u1 < u0:
        return 0, -1, 0, -1, least
    return (
        int(max(math.floor(u0), 0.0)), int(min(math.ceil(u1), width - 1.0)),
        int(max(math.floor(v0), 0.0)), int(min(math.ceil(v1), height - 1.0)), least,
    )  # fmt: skip


@cached_njit
def find_visible(geometry, kind, material, owner, order, camera, pose, intrinsics, depth, hit, stamp, whole):
    """Fill ``depth`` and ``hit`` (H, W) with the nearest primitive of every pixel (-1 where there is none).

    Args:
        order: in which primitives are tried; those of one actor follow each other.
        camera, pose: world to camera and back, (4, 4). intrinsics: (3, 3).
        stamp: (H, W) work space. whole: (A,) int64, receives the pixels that each actor would cover if nothing stood
            in front of it.
    """
    height, width = depth.shape
    depth[:], hit[:], stamp[:] = MISS, -1, -1
    ox, oy, oz = pose[0, 3], pose[1, 3], pose[2, 3]
    for p in order:
        g = geometry[p]
        u0, u1, v0, v1, least = _outline(g, kind[p], camera, intrinsics, height, width)
        me = owner[p]
        for v in range(v0, v1 + 1):
            cy = (v - intrinsics[1, 2]) / intrinsics[1, 1]
            for u in range(u0, u1 + 1):
                if depth[v, u] <= least and (me < 0 or stamp[v, u] == me):
                    continue
                cx = (u - intrinsics[0, 2]) / intrinsics[0, 0]
                dx = pose[0, 0] * cx + pose[0, 1] * cy + pose[0, 2]
                dy = pose[1, 0] * cx + pose[1, 1] * cy + pose[1, 2]
                dz = pose[2, 0] * cx + pose[2, 1] * cy + pose[2, 2]
                t, out, face = intersect(kind[p], g, ox, oy, oz, dx, dy, dz)
                if t >= MISS or t < NEAR:
                    continue
                if me >= 0 and stamp[v, u] != me:
                    stamp[v, u] = me
                    whole[me] += 1
                if t >= depth[v, u]:
                    continue
                if g[11] > 0.0 and _passes(kind[p], material[p], g, face, ox + t * dx, oy + t * dy, oz + t * dz):
                    continue
                depth[v, u], hit[v, u] = t, p


@cached_njit
def _passes(kind, material, g, face, x, y, z):
    """Whether a porous surface has a hole here: between leaves, between the bars of a railing, between spokes."""
    if material == FOLIAGE:
        nx, ny, nz, _, _, _ = normal_at(kind, g, face, x, y, z)
        fine = value_noise(x * 6.0, y * 6.0, z * 6.0) * 0.6 + value_noise(x * 17.0, y * 17.0, z * 17.0) * 0.4
        return fine < 0.30 + 0.12 * (kind == ELLIPSOID)
    _, _, _, lx, ly, lz = normal_at(kind, g, face, x, y, z)
    if face == 5 or face == 6 or kind != 3:
        return (lx * 8.0) % 1.0 > 0.25 if kind != 3 else lx * lx + lz * lz < (0.8 * g[3]) ** 2
    return False


def depth_order(primitives: Primitives, position: np.ndarray) -> np.ndarray:
    """Order primitives near to far, keeping those of one actor together."""
    g, owner = primitives.geometry, primitives.owner
    distance = np.hypot(g[:, 0] - position[0], g[:, 1] - position[1]) - np.hypot(g[:, 3], g[:, 4])
    key = distance.copy()
    if (owner >= 0).any():
        nearest = np.full(owner.max() + 1, np.inf)
        np.minimum.at(nearest, owner[owner >= 0], distance[owner >= 0])
        key[owner >= 0] = nearest[owner[owner >= 0]]
    return np.lexsort((distance, owner, key))
