# SPDX-License-Identifier: Apache-2.0
"""Images of the driving scene: what each pixel shows of surfaces, ground, shadows and sky, and how it is developed."""

from __future__ import annotations

import math

import cv2
import numpy as np

from pcperc.geometry import invert_rigid
from pcperc.simulation.driving.ground import CURB_HEIGHT, OFF, ground_hit
from pcperc.simulation.driving.intersect import FRUSTUM, intersect, normal_at
from pcperc.simulation.driving.road import Road
from pcperc.simulation.driving.shading import paint_ground, paint_sky, paint_surface
from pcperc.simulation.driving.shapes import Primitives
from pcperc.simulation.driving.visibility import depth_order, find_visible
from pcperc.simulation.driving.world import Light
from pcperc.simulation.jit import cached_njit

SHADOW_REACH, SHADOW_CELL = 64.0, 0.1


@cached_njit
def _sunlight(shadows, corner, x, y):
    """Return the share of the sun that reaches a place on the ground."""
    i, j = int((y - corner[1]) / SHADOW_CELL), int((x - corner[0]) / SHADOW_CELL)
    if 0 <= i < shadows.shape[0] and 0 <= j < shadows.shape[1]:
        return shadows[i, j] / 255.0
    return 1.0


@cached_njit
def paint_image(surfaces, depth, hit, pose, intrinsics, ground, light, shadow, seed, image):
    """Paint every pixel: surfaces by their material, the ground by its kind, the sky.

    Args:
        surfaces: geometry, kind, material, colour, accent of the primitives.
        depth, hit: as `find_visible` filled them; ``hit`` becomes -2 where the ground is nearest.
        ground: the road's table, its car parks. shadow: as `shadow_map` returns it. image: (H, W, 3) float32, filled.
    """
    geometry, kind, material, colour, accent = surfaces
    road, carparks = ground
    shadows, corner = shadow
    ox, oy, oz = pose[0, 3], pose[1, 3], pose[2, 3]
    rgb = np.zeros(3)
    sky = np.zeros(3)
    for v in range(depth.shape[0]):
        cy = (v - intrinsics[1, 2]) / intrinsics[1, 1]
        for u in range(depth.shape[1]):
            cx = (u - intrinsics[0, 2]) / intrinsics[0, 0]
            dx = pose[0, 0] * cx + pose[0, 1] * cy + pose[0, 2]
            dy = pose[1, 0] * cx + pose[1, 1] * cy + pose[1, 2]
            dz = pose[2, 0] * cx + pose[2, 1] * cy + pose[2, 2]
            p, t = hit[v, u], depth[v, u]
            what, steep = OFF, 0.0
            if dz < 0.0 and (CURB_HEIGHT - oz) / dz < t:  # else the ground is behind what is seen already
                below, what, steep = ground_hit(road, carparks, ox, oy, oz, dx, dy, dz)
                if below < t:
                    p, t = -2, below
                    hit[v, u] = -2
            length = math.sqrt(dx * dx + dy * dy + dz * dz)
            view = (dx / length, dy / length, dz / length)
            if p == -1 or t * length > 600.0:
                paint_sky(light, view[0], view[1], view[2], seed, rgb)
            else:
                x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
                if p == -2:
                    lit = _sunlight(shadows, corner, x, y)
                    paint_ground(road, light, what, steep, x, y, t, lit, seed, rgb)
                else:
                    _, _, face = intersect(kind[p], geometry[p], ox, oy, oz, dx, dy, dz)
                    nx, ny, nz, lx, ly, lz = normal_at(kind[p], geometry[p], face, x, y, z)
                    normal, place = (nx, ny, nz), (x, y, z, lx, ly, lz)
                    paint_surface(
                        geometry[p], material[p], colour[p], accent[p], light, normal, place, view, face, p + seed, rgb
                    )
                far = 1.0 - math.exp(-light[5] * t * length)
                paint_sky(light, view[0], view[1], 0.02, seed, sky)
                for k in range(3):
                    rgb[k] += far * (sky[k] - rgb[k])
            for k in range(3):
                image[v, u, k] = rgb[k]


def shadow_map(primitives: Primitives, light: Light, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw the shadows on the ground around (x, y).

    Returns:
        (R, C) uint8, 255 in full sun, rows along +y, and the corner (2,) of its first cell in metres.
    """
    size = int(2 * SHADOW_REACH / SHADOW_CELL)
    corner = np.array([x - SHADOW_REACH, y - SHADOW_REACH])
    mask = np.full((size, size), 255, np.uint8)
    g = primitives.geometry
    half = g[:, 3:6].copy()
    half[primitives.kind == FRUSTUM, 1] = half[primitives.kind == FRUSTUM, 0]
    signs = np.array([[(k & 1) * 2 - 1, (k >> 1 & 1) * 2 - 1, (k >> 2) * 2 - 1] for k in range(8)])
    corners = signs[None] * half[:, None]
    wx = g[:, None, 0] + g[:, None, 6] * corners[..., 0] - g[:, None, 7] * corners[..., 1]
    wy = g[:, None, 1] + g[:, None, 7] * corners[..., 0] + g[:, None, 6] * corners[..., 1]
    wz = np.maximum(g[:, None, 2] + corners[..., 2], 0.0)
    slide = light.sun[:2] / max(light.sun[2], 0.2)
    px, py = (wx - slide[0] * wz - corner[0]) / SHADOW_CELL, (wy - slide[1] * wz - corner[1]) / SHADOW_CELL
    seen = (px.max(1) > 0) & (px.min(1) < size) & (py.max(1) > 0) & (py.min(1) < size)
    outline = np.round(np.stack((px, py), -1)).astype(np.int32)
    for row in np.flatnonzero(seen):
        cv2.fillConvexPoly(mask, cv2.convexHull(outline[row]), 0)
    return cv2.blur(mask, (3, 3)), corner


class Renderer:
    """Renders images of one size; keeps its work space between images.

    Args:
        size: height, width.
    """

    def __init__(self, size: tuple[int, int]):
        self.depth, self.hit = np.empty(size), np.empty(size, np.int64)
        self.stamp, self.image = np.empty(size, np.int64), np.empty((*size, 3), np.float32)

    def render(
        self,
        primitives: Primitives,
        road: Road,
        light: Light,
        camera2global,
        intrinsics,
        *,
        seed: int,
        actors: int,
        rng,
    ):
        """Render one image.

        Returns:
            image (H, W, 3) uint8 RGB; owner (H, W) int64: actor, -1 background, -2 ground, -3 sky; and for every
            actor the pixels it would cover alone and those that are seen, (A,) int64 each.
        """
        pose = np.ascontiguousarray(camera2global, np.float64)
        camera, intrinsics = invert_rigid(pose), np.ascontiguousarray(intrinsics, np.float64)
        whole = np.zeros(actors, np.int64)
        p = primitives
        find_visible(
            p.geometry, p.kind, p.material, p.owner, depth_order(p, pose[:2, 3]),
            camera, pose, intrinsics, self.depth, self.hit, self.stamp, whole,
        )  # fmt: skip
        surfaces = (p.geometry, p.kind, p.material, p.colour, p.accent)
        ground, shadow = (road.table(), road.carparks), shadow_map(p, light, pose[0, 3], pose[1, 3])
        paint_image(
            surfaces, self.depth, self.hit, pose, intrinsics, ground, light.table(), shadow, seed, self.image
        )  # fmt: skip
        owner = np.where(self.hit >= 0, p.owner[np.maximum(self.hit, 0)], np.where(self.hit == -2, -2, -3))
        seen = np.bincount(owner[owner >= 0], minlength=actors)[:actors]
        return develop(self.image, light.exposure, rng), owner, whole, seen


def develop(linear: np.ndarray, exposure: float, rng: np.random.Generator) -> np.ndarray:
    """Turn linear light (H, W, 3) into an 8-bit picture: lens blur, tone curve, sensor noise."""
    soft = cv2.GaussianBlur(linear, (3, 3), 0.55) * exposure
    curve = np.clip(soft / (0.22 + soft) * 1.12, 0, 1) ** 0.80 * 255
    grain = rng.integers(0, 256, (64, linear.shape[1], 3), dtype=np.uint8).astype(np.float32) / 255 - 0.5
    rows = rng.integers(0, 64, linear.shape[0])
    return np.clip(curve + 7.0 * grain[rows], 0, 255).astype(np.uint8)
