# SPDX-License-Identifier: Apache-2.0
"""The simulator's rays against a slow caster that only asks "is this point inside?" and steps along the ray."""

import math

import numpy as np
import pytest

from pcperc.geometry import rigid_matrix, rotation_z
from pcperc.simulation.driving import intersect as rays
from pcperc.simulation.driving import lidar
from pcperc.simulation.driving.ground import CURB_HEIGHT, to_road
from pcperc.simulation.driving.road import Road
from pcperc.simulation.driving.shapes import Primitives, Shape

STEP, REACH = 0.01, 28.0
GREY = (0.5, 0.5, 0.5)


def flat_road() -> Road:
    """A straight road along x with its junction out of sight."""
    return Road(0.0, 0.0, 0.0, 0.0, 0.0, 2, 3.5, 2.0, 400.0, 1)


def tiny_world() -> Primitives:
    shape = Shape(np.random.default_rng(0))
    shape.box(9.0, 2.0, 0.0, 4.0, 2.0, 1.5, GREY, yaw=0.6, lean=(0.5, 0.2, 0.1))
    shape.tube(-6.0, 3.0, 0.0, 0.9, 0.2, 2.5, GREY)
    shape.ball(2.0, -7.0, 0.3, 3.0, 1.5, 2.0, GREY, yaw=-0.4)
    shape.wheel(5.0, -4.0, 0.6, 0.4)
    shape.box(14.0, 3.0, 0.0, 1.0, 9.0, 4.0, GREY)
    shape.tube(-12.0, -3.0, 0.0, 0.9, 0.9, 5.0, GREY)
    return shape.build()


def inside(kind: int, g: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether points (..., 3) lie in a primitive, from the definition of its columns."""
    delta = points - g[:3]
    x = g[6] * delta[..., 0] + g[7] * delta[..., 1]
    y = -g[7] * delta[..., 0] + g[6] * delta[..., 1]
    z = delta[..., 2]
    if kind == rays.BOX:
        up = z + g[5]
        long = (x <= g[3] - g[8] * up) & (x >= -g[3] + g[9] * up)
        return long & (np.abs(y) <= g[4] - g[10] * up) & (np.abs(z) <= g[5])
    if kind == rays.FRUSTUM:
        radius = g[3] + (g[4] - g[3]) * (z + g[5]) / (2 * g[5])
        return (np.hypot(x, y) <= radius) & (np.abs(z) <= g[5])
    if kind == rays.ELLIPSOID:
        return (x / g[3]) ** 2 + (y / g[4]) ** 2 + (z / g[5]) ** 2 <= 1
    return (np.hypot(x, z) <= g[3]) & (np.abs(y) <= g[4])


def inside_ground(points: np.ndarray) -> np.ndarray:
    """Below the street, 9 m to each side, or below the pavement beside it."""
    return points[..., 2] <= np.where(np.abs(points[..., 1]) < 9.0, 0.0, CURB_HEIGHT)


def march(world: Primitives, origin: np.ndarray, direction: np.ndarray) -> tuple[float, int]:
    """Return distance and primitive (-1 ground, -2 nothing) of the first thing on a ray."""
    t = np.arange(STEP, REACH, STEP)
    points = origin + t[:, None] * direction
    tests = [lambda p: inside_ground(p)]
    tests += [lambda p, k=k, g=g: inside(k, g, p) for k, g in zip(world.kind, world.geometry, strict=True)]
    hits = np.array([test(points) for test in tests])
    if not hits.any():
        return math.inf, -2
    first = int(np.argmax(hits.any(0)))
    best, which = math.inf, -2
    for index in np.flatnonzero(hits[:, first]):
        low, high = t[first] - STEP, t[first]
        for _ in range(40):
            middle = 0.5 * (low + high)
            low, high = (low, middle) if tests[index](origin + middle * direction) else (middle, high)
        if high < best:
            best, which = high, int(index) - 1
    return best, which


def test_lidar_equals_a_slow_caster():
    world, road = tiny_world(), flat_road()
    pose = rigid_matrix((0.4, -0.3, 1.84), rotation_z(0.3)[:3, :3])
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[math.cos(0.02), -math.sin(0.02)], [math.sin(0.02), math.cos(0.02)]]
    pose = pose @ tilt
    directions = lidar.beam_directions()
    distance, hit, slant, _ = lidar.cast(
        world.geometry, world.kind, world.material, directions, np.radians(lidar.ELEVATION_DEG),
        math.radians(lidar.FIRST_AZIMUTH_DEG), pose, road.table(), road.carparks, 1,
    )  # fmt: skip
    wrong, seen = [], set()
    for i in range(0, lidar.COLUMNS, 17):
        for j in range(lidar.BEAMS):
            expected, which = march(world, pose[:3, 3], pose[:3, :3] @ directions[i, j])
            seen.add(which)
            if not math.isfinite(expected):
                same = distance[i, j] > REACH - 2 * STEP
            else:
                same = abs(distance[i, j] - expected) < 1e-6 and hit[i, j] == which
            if not same:
                wrong.append((i, j, float(distance[i, j]), expected, int(hit[i, j]), which))
    assert seen == {-2, -1, 0, 1, 2, 3, 4, 5}, f"the test must meet every primitive, met {seen}"
    # A step of 1 cm jumps over the thinnest grazing cuts; nothing else may differ.
    assert len(wrong) <= 4, wrong
    assert all(abs(a - b) < 0.05 or a < b for _, _, a, b, _, _ in wrong), wrong
    assert ((slant > 0) & (slant <= 1 + 1e-12)).all()


@pytest.mark.parametrize("kind", [rays.BOX, rays.FRUSTUM, rays.ELLIPSOID, rays.WHEEL])
def test_normal_points_out_of_the_surface(kind):
    rng = np.random.default_rng(kind)
    g = np.array([1.0, 2.0, 0.5, 1.2, 0.7, 0.9, math.cos(0.7), math.sin(0.7), 0.2, 0.1, 0.15, 0.0])
    if kind == rays.WHEEL:
        g[5] = g[3]
    met = 0
    for _ in range(300):
        origin = g[:3] + 6 * rng.standard_normal(3)
        direction = g[:3] + 0.5 * rng.standard_normal(3) - origin
        if inside(kind, g, origin):
            continue
        t, out, face = rays.intersect(kind, g, *origin, *direction)
        if t >= rays.MISS:
            continue
        met += 1
        point = origin + t * direction
        normal = np.array(rays.normal_at(kind, g, face, *point)[:3])
        assert abs(np.linalg.norm(normal) - 1) < 1e-9
        assert normal @ direction < 1e-9, "the face that is met looks towards the ray"
        assert inside(kind, g, point - 1e-5 * normal) and not inside(kind, g, point + 1e-5 * normal)
        assert inside(kind, g, origin + 0.5 * (t + out) * direction), "between entry and exit the ray is inside"
    assert met > 60


@pytest.mark.parametrize("bends", [(0.0, 0.0), (1 / 130, -1 / 140), (-1 / 131, 0.0)])
def test_road_coordinates_go_back_and_forth(bends):
    road = Road(310.0, 95.0, 2.1, *bends, 2, 3.4, 4.0, 35.0, 1)
    table = road.table()
    for s in np.linspace(-110, 110, 23):
        for d in (-14.0, -3.0, 0.0, 9.0):
            x, y, _ = road.to_world(s, d)
            assert np.allclose(to_road(table, float(x), float(y))[:2], (s, d), atol=1e-8)
            x, y, _ = road.cross_to_world(s, d)
            assert np.allclose(to_road(table, float(x), float(y))[2:], (s, d), atol=1e-8)


def test_road_is_smooth_where_its_bend_changes():
    road = Road(0.0, 0.0, 0.4, 1 / 130, -1 / 140, 2, 3.4, 4.0, 35.0, 1)
    before, after = road.to_world(-1e-4, 2.0), road.to_world(1e-4, 2.0)
    assert np.allclose(before, after, atol=1e-3)


def test_echoes_get_rarer_with_range_and_intensity_does_not_depend_on_who_is_hit():
    rng, count = np.random.default_rng(0), 20_000
    share = {}
    for distance in (10.0, 60.0, 104.0, 200.0):
        full = np.full(count, distance)
        noisy, intensity, echo = lidar.measure(full, np.full(count, 0.2), np.full(count, 0.8), rng)
        share[distance] = echo.mean()
        assert abs((noisy - full).std() - lidar.RANGE_NOISE) < 0.001
        assert intensity.min() >= 0 and intensity.max() <= 255
    assert share[10.0] > 0.97 and share[10.0] > share[60.0] > share[104.0] and share[200.0] == 0
