# SPDX-License-Identifier: Apache-2.0
"""Worlds, occlusion, images and annotations of the driving simulator."""

import math

import numpy as np
import pytest

from pcperc.geometry import rigid_matrix
from pcperc.simulation.driving import scene as scenes
from pcperc.simulation.driving.actors import Actor, Flow, Path
from pcperc.simulation.driving.camera import Renderer
from pcperc.simulation.driving.lidar import scan
from pcperc.simulation.driving.rig import CAMERAS, make_rig
from pcperc.simulation.driving.road import Road
from pcperc.simulation.driving.shapes import LAMP, Primitives, Shape
from pcperc.simulation.driving.street_users import pedestrian
from pcperc.simulation.driving.vehicles import car
from pcperc.simulation.driving.world import Light

CLASS_RANGE = {
    "car": 50, "truck": 50, "bus": 50, "trailer": 50, "construction_vehicle": 50,
    "pedestrian": 40, "motorcycle": 40, "bicycle": 40, "traffic_cone": 30, "barrier": 30,
}  # fmt: skip
NOON = Light(np.array([0.0, 0.0, 1.0]), 0.6, 0.6, 0.001, 0.3, 0.9)


def flat_road() -> Road:
    return Road(0.0, 0.0, 0.0, 0.0, 0.0, 2, 3.5, 4.0, 400.0, 1)


def oracle_count(points: np.ndarray, box: np.ndarray) -> int:
    """Points inside a box, by projection on its three axes."""
    ahead = np.array([math.cos(box[6]), math.sin(box[6]), 0.0])
    axes = np.stack([ahead, [-ahead[1], ahead[0], 0.0], [0.0, 0.0, 1.0]])
    return int((np.abs((points - box[:3]) @ axes.T) <= box[3:6] / 2).all(1).sum())


def look_from(x: float, y: float, z: float) -> np.ndarray:
    """Pose of a camera that looks along +x of the world."""
    return rigid_matrix((x, y, z), np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]))


def test_box_is_tight_around_the_points_of_a_car():
    road = flat_road()
    actor = Actor("car", car(np.random.default_rng(3)), Path("main", 9.0, -5.0, way=-1, turn=0.3), road)
    rng = np.random.default_rng(0)
    ego = np.eye(4)
    lidar2global = ego @ make_rig(rng).lidar2ego
    points, owner = scan(actor.primitives(0.0, 0), road, lidar2global, ego, rng)
    hits = points[owner == 0, :3].astype(np.float64) @ lidar2global[:3, :3].T + lidar2global[:3, 3]
    box = actor.box(0.0)
    assert len(hits) > 300
    assert oracle_count(hits, box) > 0.97 * len(hits), "only range noise may leave the box"
    c, s = math.cos(box[6]), math.sin(box[6])
    local = np.stack(((hits - box[:3])[:, :2] @ [c, s], (hits - box[:3])[:, :2] @ [-s, c], hits[:, 2] - box[2]), -1)
    # The near side, the end that faces the sensor and the roof lie on the faces of the box.
    assert np.abs(local).max(0) == pytest.approx(box[3:6] / 2, abs=0.12)


@pytest.mark.parametrize("wall, expected_points, expected_level", [(False, True, 4), (True, False, 1)])
def test_a_wall_hides_what_stands_behind_it(wall, expected_points, expected_level):
    road, rng = flat_road(), np.random.default_rng(0)
    actor = Actor("pedestrian", pedestrian(rng), Path("main", 12.0, 0.0), road)
    parts = [actor.primitives(0.0, 0)]
    if wall:
        shape = Shape(rng)
        shape.box(8.0, 0.0, 0.0, 0.3, 6.0, 4.0, (0.5, 0.5, 0.5))
        parts.append(shape.build())
    world = Primitives.concatenate(parts)
    ego = np.eye(4)
    lidar2global = ego @ make_rig(rng).lidar2ego
    points, owner = scan(world, road, lidar2global, ego, rng)
    inside = points[:, :3].astype(np.float64) @ lidar2global[:3, :3].T + lidar2global[:3, 3]
    assert (oracle_count(inside, actor.box(0.0)) > 0) == expected_points
    assert (owner == 0).any() == expected_points
    intrinsics = np.array([[300.0, 0, 160], [0, 300.0, 90], [0, 0, 1]])
    _, seen_by, whole, seen = Renderer((180, 320)).render(
        world, road, NOON, look_from(0, 0, 1.5), intrinsics, seed=1, actors=1, rng=rng
    )
    assert whole[0] > 100, "counted whether it is seen or not"
    assert seen[0] == (seen_by == 0).sum()
    assert scenes.visibility_level(int(whole[0]), int(seen[0])) == expected_level


@pytest.mark.parametrize("whole, seen, level", [(0, 0, 1), (100, 40, 1), (100, 41, 2), (100, 61, 3), (100, 81, 4)])
def test_visibility_levels_are_those_of_nuscenes(whole, seen, level):
    assert scenes.visibility_level(whole, seen) == level


@pytest.mark.parametrize("x, y, z", [(15.0, 2.0, 1.0), (30.0, -6.0, 0.5), (8.0, 0.0, 2.5)])
def test_a_bright_object_is_where_the_calibration_projects_it(x, y, z):
    shape, rng = Shape(np.random.default_rng(0)), np.random.default_rng(0)
    shape.box(x, y, z, 0.6, 0.8, 1.0, (0.95, 0.0, 0.0), material=LAMP)
    world = shape.build().place(0, 0, 0, 0, owner=0)
    intrinsics = np.array([[420.0, 0, 301.3], [0, 420.0, 148.7], [0, 0, 1]])
    image, owner, _, _ = Renderer((320, 600)).render(
        world, flat_road(), NOON, look_from(0.5, 0.2, 1.6), intrinsics, seed=1, actors=1, rng=rng
    )
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (0, 2)])
    corners = np.array([x, y, z]) + signs * [0.3, 0.4, 0.5] - [0.5, 0.2, 1.6]
    u = 420.0 * -corners[:, 1] / corners[:, 0] + 301.3
    v = 420.0 * -corners[:, 2] / corners[:, 0] + 148.7
    rows, columns = np.nonzero(owner == 0)
    assert columns.min() == pytest.approx(u.min(), abs=1) and columns.max() == pytest.approx(u.max(), abs=1)
    assert rows.min() == pytest.approx(v.min(), abs=1) and rows.max() == pytest.approx(v.max(), abs=1)
    # Pixel centres lie at whole numbers: the outermost ones are the whole numbers inside the outline.
    assert columns.min() >= u.min() - 1e-6 and columns.max() <= u.max() + 1e-6
    red = (image[..., 0].astype(int) > 150) & (image[..., 1] < 120) & (image[..., 2] < 120)
    mask = owner == 0
    core = mask & np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1) & np.roll(mask, -1, 1)
    assert core.sum() > 50 and red[core].mean() > 0.95
    assert red[owner != 0].mean() < 0.002, "nothing else is red"


def test_images_show_sky_above_street_and_differ_between_worlds():
    pictures = []
    for index in (0, 1):
        world, rng = scenes.scene_world(7, index), np.random.default_rng(0)
        rig = make_rig(rng, (90, 160))
        pose = world.ego_pose(0.0) @ rig.camera2ego["CAM_FRONT"]
        image, owner, _, _ = Renderer((90, 160)).render(
            world.primitives(0.0), world.road, world.light, pose, rig.camera2image["CAM_FRONT"],
            seed=world.seed, actors=len(world.actors), rng=rng,
        )  # fmt: skip
        assert (owner == -3)[:30].mean() > (owner == -3)[60:].mean()
        assert (owner == -2)[60:].mean() > (owner == -2)[:30].mean()
        assert image.std() > 20, "a picture has contrast"
        pictures.append(image.astype(int))
    assert np.abs(pictures[0] - pictures[1]).mean() > 10


@pytest.mark.parametrize("channel", list(CAMERAS))
def test_rig_looks_where_nuscenes_cameras_look(channel):
    rig = make_rig(np.random.default_rng(0), (450, 800))
    forward = rig.camera2ego[channel][:3, 2]
    yaw = math.degrees(math.atan2(forward[1], forward[0]))
    assert abs((yaw - CAMERAS[channel][3] + 180) % 360 - 180) < 2.5
    assert rig.camera2ego[channel][2, 1] < -0.99, "image rows run down"
    assert rig.camera2image[channel][0, 0] == pytest.approx(CAMERAS[channel][4] / 2, rel=0.004)
    assert np.allclose(rig.lidar2ego[:3, 1], [1, 0, 0], atol=0.03), "the LiDAR's y looks forward"


@pytest.mark.parametrize(
    "path",
    [
        Path("main", 0.0, -5.0, flow=Flow(9.0, 0.12, 0.5, 1.0), shift=3.4, shift_start=0.5),
        Path("main", 20.0, 5.0, way=-1, flow=Flow(4.0)),
        Path("cross", -10.0, -2.0, flow=Flow(6.0)),
        Path("main", 3.0, 2.0, drift=1.2),
    ],
)
def test_heading_and_speed_follow_the_motion(path):
    road, h = Road(50.0, 60.0, 0.8, 1 / 130, -1 / 140, 2, 3.4, 4.0, 35.0, 1), 1e-4
    for t in (-0.5, 0.9, 2.2, 4.0):
        before, after = np.array(path.pose(road, t - h)[:2]), np.array(path.pose(road, t + h)[:2])
        velocity = (after - before) / (2 * h)
        yaw = path.pose(road, t)[2]
        # Off the centre line of a bend the speed over ground differs from that along the centre line by d / radius.
        assert np.linalg.norm(velocity) == pytest.approx(path.speed(t), rel=0.06)
        turn = math.remainder(math.atan2(velocity[1], velocity[0]) - yaw, 2 * math.pi)
        assert abs(turn) < 0.02


def test_every_class_is_near_the_car_in_both_splits():
    """World level, without images: a box within its class's range, hit by the first sweep."""
    from pcperc.simulation.driving.generate import split_of

    scored = {"sim_train": dict.fromkeys(CLASS_RANGE, 0), "sim_val": dict.fromkeys(CLASS_RANGE, 0)}
    for index in range(10):
        world, rng = scenes.scene_world(0, index), np.random.default_rng(index)
        ego = world.ego_pose(0.0)
        lidar2global = ego @ make_rig(rng).lidar2ego
        points, _ = scan(world.primitives(0.0), world.road, lidar2global, ego, rng)
        inside = points[:, :3].astype(np.float64) @ lidar2global[:3, :3].T + lidar2global[:3, 3]
        for actor in world.actors:
            box = actor.box(0.0)
            near = math.hypot(*(box[:2] - ego[:2, 3])) < CLASS_RANGE[actor.name]
            if near and scenes.count_points(inside, box):
                scored[split_of(index, 10)][actor.name] += 1
    assert all(count > 0 for split in scored.values() for count in split.values()), scored


def test_reflectivity_does_not_tell_the_class():
    logs: dict[str, list[float]] = {name: [] for name in CLASS_RANGE}
    for index in range(12):
        for actor in scenes.scene_world(1, index).actors:
            logs[actor.name] += np.log(actor.shape.reflectivity).tolist()
    everyone = np.concatenate([np.array(values) for values in logs.values()])
    for name, values in logs.items():
        error = everyone.std() / math.sqrt(len(values))
        assert abs(np.mean(values) - everyone.mean()) < 4 * error, name


def test_counting_points_equals_the_oracle():
    rng = np.random.default_rng(1)
    points = rng.uniform(-6, 6, (4000, 3))
    for _ in range(20):
        box = np.concatenate([rng.uniform(-3, 3, 3), rng.uniform(0.5, 6, 3), rng.uniform(-7, 7, 1)])
        assert scenes.count_points(points, box) == oracle_count(points, box)
