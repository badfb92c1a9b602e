# SPDX-License-Identifier: Apache-2.0
"""Where a ray meets a primitive: the geometry that LiDAR and camera share.

A primitive is one row of a (P, 12) float64 table plus an integer kind:

| columns | meaning |
|---|---|
| 0..2 | centre in the world, metres |
| 3..5 | half sizes along its own x (forward), y (left), z (up); a frustum: bottom radius, top radius, half height; a wheel: radius, half width, radius |
| 6, 7 | cosine and sine of its yaw |
| 8..10 | a box only: how far the front, the rear and each side lean inwards per metre of height, >= 0 |
| 11 | porosity: the share of rays that pass (foliage, spokes) |
"""  # noqa: E501

from __future__ import annotations

import math

from pcperc.simulation.jit import cached_njit

BOX, FRUSTUM, ELLIPSOID, WHEEL = 0, 1, 2, 3
MISS = 1e30


@cached_njit
def _clip(near, far, face, number, distance, speed):
    """Clip the interval of a ray by one half-space ``n.x <= d``: distance = d - n.o, speed = n.direction."""
    if speed == 0.0:
        if distance < 0.0:
            return MISS, -MISS, face
        return near, far, face
    t = distance / speed
    if speed < 0.0:
        if t > near:
            near, face = t, number
    elif t < far:
        far = t
    return near, far, face


@cached_njit
def _hit_box(g, x, y, z, dx, dy, dz):
    """Clip the ray by the six planes of a box whose sides may lean. Faces: 1 +x, 2 -x, 3 +y, 4 -y, 5 +z, 6 -z."""
    hx, hy, hz, front, rear, side = g[3], g[4], g[5], g[8], g[9], g[10]
    lift = z + hz
    near, far, face = _clip(-MISS, MISS, 0, 5, hz - z, dz)
    near, far, face = _clip(near, far, face, 6, lift, -dz)
    near, far, face = _clip(near, far, face, 1, hx - x - front * lift, dx + front * dz)
    near, far, face = _clip(near, far, face, 2, hx + x - rear * lift, -dx + rear * dz)
    near, far, face = _clip(near, far, face, 3, hy - y - side * lift, dy + side * dz)
    near, far, face = _clip(near, far, face, 4, hy + y - side * lift, -dy + side * dz)
    if near >= far:
        return MISS, MISS, 0
    return near, far, face


@cached_njit
def _hit_round(a, b, half, x, y, z, dx, dy, dz):
    """Meet the body of revolution about z of radius ``a + b z``, |z| <= half. Faces: 1 mantle, 5 top, 6 bottom."""
    near, far, face = MISS, -MISS, 0
    radius, slope = a + b * z, b * dz
    qa = dx * dx + dy * dy - slope * slope
    qb = x * dx + y * dy - radius * slope
    qc = x * x + y * y - radius * radius
    root = qb * qb - qa * qc
    if root >= 0.0 and abs(qa) > 1e-12:
        root = math.sqrt(root)
        for sign in (-1.0, 1.0):
            t = (-qb + sign * root) / qa
            height = z + t * dz
            if abs(height) <= half and a + b * height >= 0.0:
                if t < near:
                    near, face = t, 1
                far = max(far, t)
    if dz != 0.0:
        for number, level in ((5, half), (6, -half)):
            t = (level - z) / dz
            px, py, edge = x + t * dx, y + t * dy, a + b * level
            if px * px + py * py <= edge * edge:
                if t < near:
                    near, face = t, number
                far = max(far, t)
    return near, far, face


@cached_njit
def _hit_ellipsoid(g, x, y, z, dx, dy, dz):
    """Meet an ellipsoid: the unit sphere after scaling."""
    x, y, z, dx, dy, dz = x / g[3], y / g[4], z / g[5], dx / g[3], dy / g[4], dz / g[5]
    qa = dx * dx + dy * dy + dz * dz
    qb = x * dx + y * dy + z * dz
    root = qb * qb - qa * (x * x + y * y + z * z - 1.0)
    if root < 0.0:
        return MISS, MISS, 0
    root = math.sqrt(root)
    return (-qb - root) / qa, (-qb + root) / qa, 1


@cached_njit
def intersect(kind, g, ox, oy, oz, dx, dy, dz):
    """Return (entry, exit, face) of a ray in units of its direction's length; entry is ``MISS`` where they do not meet.

    A ray that starts inside a primitive does not see it.
    """
    px, py, z = ox - g[0], oy - g[1], oz - g[2]
    c, s = g[6], g[7]
    x, y = c * px + s * py, c * py - s * px
    lx, ly = c * dx + s * dy, c * dy - s * dx
    if kind == BOX:
        near, far, face = _hit_box(g, x, y, z, lx, ly, dz)
    elif kind == FRUSTUM:
        a, b = 0.5 * (g[3] + g[4]), 0.5 * (g[4] - g[3]) / g[5]
        near, far, face = _hit_round(a, b, g[5], x, y, z, lx, ly, dz)
    elif kind == ELLIPSOID:
        near, far, face = _hit_ellipsoid(g, x, y, z, lx, ly, dz)
    else:
        near, far, face = _hit_round(g[3], 0.0, g[4], z, x, y, dz, lx, ly)
    if near <= 0.0 or near >= MISS:
        return MISS, MISS, 0
    return near, far, face


@cached_njit
def normal_at(kind, g, face, wx, wy, wz):
    """Return the outward unit normal in the world at a point of the surface, and the point in the primitive's frame."""
    px, py, z = wx - g[0], wy - g[1], wz - g[2]
    c, s = g[6], g[7]
    x, y = c * px + s * py, c * py - s * px
    nx, ny, nz = 0.0, 0.0, 0.0
    if kind == BOX:
        if face <= 2:
            nx, nz = (1.0, g[8]) if face == 1 else (-1.0, g[9])
        elif face <= 4:
            ny, nz = (1.0, g[10]) if face == 3 else (-1.0, g[10])
        else:
            nz = 1.0 if face == 5 else -1.0
    elif kind == FRUSTUM:
        if face == 1:
            nx, ny, nz = x, y, 0.5 * (g[3] - g[4]) / g[5] * math.sqrt(x * x + y * y)
        else:
            nz = 1.0 if face == 5 else -1.0
    elif kind == ELLIPSOID:
        nx, ny, nz = x / (g[3] * g[3]), y / (g[4] * g[4]), z / (g[5] * g[5])
    elif face == 1:
        nx, nz = x, z
    else:
        ny = 1.0 if face == 5 else -1.0
    length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
    nx, ny, nz = nx / length, ny / length, nz / length
    return c * nx - s * ny, s * nx + c * ny, nz, x, y, z


@cached_njit
def hash_unit(a, b, c):
    """Turn three integers into a number in [0, 1): the same on every machine."""
    h = (a * 0x9E3779B1 + b * 0x85EBCA77 + c * 0xC2B2AE3D) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    h = ((h ^ (h >> 12)) * 0x297A2D39) & 0xFFFFFFFF
    h = h ^ (h >> 15)
    return (h & 0xFFFFFF) / 16777216.0


@cached_njit
def value_noise(x, y, z):
    """Smooth noise in [0, 1) with a grain of one unit."""
    fx, fy, fz = math.floor(x), math.floor(y), math.floor(z)
    ix, iy, iz = int(fx), int(fy), int(fz)
    u, v, w = x - fx, y - fy, z - fz
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    low = (hash_unit(ix, iy, iz) * (1 - u) + hash_unit(ix + 1, iy, iz) * u) * (1 - v) + (
        hash_unit(ix, iy + 1, iz) * (1 - u) + hash_unit(ix + 1, iy + 1, iz) * u
    ) * v
    high = (hash_unit(ix, iy, iz + 1) * (1 - u) + hash_unit(ix + 1, iy, iz + 1) * u) * (1 - v) + (
        hash_unit(ix, iy + 1, iz + 1) * (1 - u) + hash_unit(ix + 1, iy + 1, iz + 1) * u
    ) * v
    return low * (1 - w) + high * w
