# SPDX-License-Identifier: Apache-2.0
"""Records one scene: drives through a world, fires LiDAR and cameras, annotates, and hands everything to the writer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pcperc.geometry import invert_rigid
from pcperc.simulation.driving.camera import Renderer
from pcperc.simulation.driving.lidar import scan
from pcperc.simulation.driving.maps import tile_centre
from pcperc.simulation.driving.rig import CAMERAS, Rig, make_rig
from pcperc.simulation.driving.world import World, build_world
from pcperc.simulation.jit import cached_njit
from pcperc.simulation.nuscenes_map import LOCATIONS
from pcperc.simulation.nuscenes_scene import SceneWriter

LIDAR = "LIDAR_TOP"
SAMPLE_US = 500_000  # two samples a second
ANNOTATED_RANGE = 80.0
FIRST_TIME_US = 1_600_000_000_000_000


@dataclass(frozen=True)
class Recording:
    """How a scene is recorded.

    Attributes:
        samples: key frames a scene, two a second.
        sweeps: LiDAR turns recorded per key frame, the key sweep included. The sensor turns 20 times a second; with
            fewer than 10 only some of the turns are kept, on a grid of 0.05 s.
        image_size: height, width. quality: of the JPEG files.
    """

    samples: int
    sweeps: int
    image_size: tuple[int, int]
    quality: int


RECORDINGS = {
    "tiny": Recording(3, 2, (90, 160), 80),  # for tests
    "small": Recording(8, 3, (450, 800), 90),
    "full": Recording(10, 10, (900, 1600), 85),
}


def locate(index: int) -> tuple[str, int]:
    """Return the location of scene ``index`` and its tile there."""
    return LOCATIONS[index % len(LOCATIONS)], index // len(LOCATIONS)


def scene_world(seed: int, index: int) -> World:
    """Return the world of scene ``index`` at its place on the map."""
    x, y = tile_centre(locate(index)[1])
    return build_world(seed, index, x=x, y=y)


@cached_njit
def count_points(points, box):
    """Count the points (N, 3) inside a box (7,) ``[x, y, z, l, w, h, yaw]`` of the same frame, faces included."""
    c, s, count = math.cos(box[6]), math.sin(box[6]), 0
    for i in range(points.shape[0]):
        px, py, pz = points[i, 0] - box[0], points[i, 1] - box[1], points[i, 2] - box[2]
        if abs(pz) <= box[5] / 2 and abs(c * px + s * py) <= box[3] / 2 and abs(c * py - s * px) <= box[4] / 2:
            count += 1
    return count


def visibility_level(whole: int, seen: int) -> int:
    """Return the nuScenes level 1..4 of the share of an object's pixels that is seen; 1 where no camera has it."""
    share = seen / whole if whole else 0.0
    return 1 + (share > 0.4) + (share > 0.6) + (share > 0.8)


def record_scene(scene: SceneWriter, world: World, recording: Recording, rng: np.random.Generator) -> SceneWriter:
    """Write the sensor files of a scene and collect its annotations.

    Args:
        scene: empty. rng: calibration and noise; every draw happens in a fixed order.
    """
    rig = make_rig(rng, recording.image_size)
    scene.add_sensor(LIDAR, rig.lidar2ego)
    for channel in CAMERAS:
        scene.add_sensor(channel, rig.camera2ego[channel], rig.camera2image[channel])
    renderer = Renderer(recording.image_size)
    pending: list[tuple] = []
    for index in range(recording.samples):
        for k in range(recording.sweeps - 1, 0, -1):  # older sweeps since the sample before
            offset = -50_000 * round(10 * k / recording.sweeps)
            _record_sweep(scene, world, rig, index * SAMPLE_US + offset, rng, None)
        now = index * SAMPLE_US
        token = scene.add_sample(FIRST_TIME_US + now)
        points = _record_sweep(scene, world, rig, now, rng, token)
        whole, seen = _record_images(scene, world, rig, renderer, now, rng, token, recording.quality)
        pending.append((token, now / 1e6, points, whole, seen))
    _annotate(scene, world, pending)
    return scene


def _record_sweep(scene: SceneWriter, world: World, rig: Rig, now: int, rng, sample: str | None) -> np.ndarray:
    """Record one turn of the LiDAR; returns its points (N, 3) in the world."""
    t = now / 1e6
    ego = world.ego_pose(t)
    lidar2global = ego @ rig.lidar2ego
    points, _ = scan(world.primitives(t), world.road, lidar2global, ego, rng)
    scene.add_lidar(LIDAR, FIRST_TIME_US + now, ego, points, sample=sample)
    return points[:, :3].astype(np.float64) @ lidar2global[:3, :3].T + lidar2global[:3, 3]


def _record_images(scene, world: World, rig: Rig, renderer: Renderer, now: int, rng, sample: str, quality: int):
    """Record the six images, each at its own time; returns per actor the pixels it would cover and those seen."""
    whole, seen = (np.zeros(len(world.actors), np.int64) for _ in range(2))
    for channel, (*_, early) in CAMERAS.items():
        t = (now - early) / 1e6
        ego = world.ego_pose(t)
        image, _, cover, visible = renderer.render(
            world.primitives(t), world.road, world.light, ego @ rig.camera2ego[channel], rig.camera2image[channel],
            seed=world.seed, actors=len(world.actors), rng=rng,
        )  # fmt: skip
        scene.add_image(channel, FIRST_TIME_US + now - early, ego, image, sample=sample, quality=quality)
        whole, seen = whole + cover, seen + visible
    return whole, seen


def _annotate(scene: SceneWriter, world: World, pending: list[tuple]) -> None:
    """Annotate every actor that the LiDAR hits at least once in the scene, in every sample where it is in range."""
    rows: dict[int, list[tuple]] = {}
    for token, t, points, whole, seen in pending:
        centre = world.ego_pose(t)[:2, 3]
        for index, actor in enumerate(world.actors):
            box = actor.box(t)
            if math.hypot(*(box[:2] - centre)) < ANNOTATED_RANGE:
                level = visibility_level(int(whole[index]), int(seen[index]))
                count = int(count_points(points, box))
                rows.setdefault(index, []).append((token, t, box, count, level))
    for index, found in rows.items():
        if not any(row[3] for row in found):
            continue
        actor = world.actors[index]
        for token, t, box, count, level in found:
            scene.add_annotation(
                token, f"{actor.name} {index}", actor.category, box,
                num_lidar_pts=count, attribute=actor.attribute(t), visibility=level,
            )  # fmt: skip


def lidar_boxes(world: World, t: float, lidar2global: np.ndarray) -> np.ndarray:
    """Return the boxes (A, 7) of all actors in the LiDAR's frame at time t (yaw as seen from above)."""
    inverse = invert_rigid(lidar2global)
    turn = math.atan2(inverse[1, 0], inverse[0, 0])
    boxes = np.array([actor.box(t) for actor in world.actors])
    boxes[:, :3] = boxes[:, :3] @ inverse[:3, :3].T + inverse[:3, 3]
    boxes[:, 6] += turn
    return boxes
