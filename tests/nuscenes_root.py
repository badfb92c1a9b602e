# SPDX-License-Identifier: Apache-2.0
"""A small nuScenes root for tests: two scenes, every class, a moving vehicle, sweeps in between, six tiny images."""

from pathlib import Path

import numpy as np

from pcperc.geometry import rigid_matrix, rotation_z
from pcperc.simulation.nuscenes_map import MapLayers
from pcperc.simulation.nuscenes_writer import NuScenesWriter

VERSION = "v1.0-tiny"
SPLITS = ("sim_train", "sim_val")
CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
IMAGE_SIZE = (18, 32)
NUM_SAMPLES, SWEEPS_BETWEEN = 3, 4
START_US, STEP_US = 1_600_000_000_000_000, 100_000
SPEED = 5.0  # of the recording vehicle, m/s

CLASSES = {
    "car": ("vehicle.car", (4.5, 2.0, 1.6), "vehicle.moving"),
    "truck": ("vehicle.truck", (8.0, 2.6, 3.0), "vehicle.parked"),
    "construction_vehicle": ("vehicle.construction", (6.0, 2.8, 3.1), "vehicle.parked"),
    "bus": ("vehicle.bus.rigid", (11.0, 2.9, 3.4), "vehicle.stopped"),
    "trailer": ("vehicle.trailer", (10.0, 2.5, 3.6), "vehicle.parked"),
    "barrier": ("movable_object.barrier", (0.6, 2.0, 1.1), ""),
    "motorcycle": ("vehicle.motorcycle", (2.1, 0.8, 1.4), "cycle.without_rider"),
    "bicycle": ("vehicle.bicycle", (1.8, 0.6, 1.3), "cycle.without_rider"),
    "pedestrian": ("human.pedestrian.adult", (0.7, 0.7, 1.75), "pedestrian.standing"),
    "traffic_cone": ("movable_object.trafficcone", (0.4, 0.4, 0.9), ""),
}
LIDAR2EGO = rigid_matrix([0.9, 0.0, 1.8], rotation_z(-np.pi / 2)[:3, :3])


def ego_pose(seconds: float) -> np.ndarray:
    """Pose of the recording vehicle: along +x from (100, 200), turning slowly."""
    return rigid_matrix([100 + SPEED * seconds, 200, 0], rotation_z(0.1 * seconds)[:3, :3])


def camera2ego(index: int) -> np.ndarray:
    """Mounting of a camera that looks along ego +x, turned by 60 degrees for each index."""
    looking_forward = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)
    return rigid_matrix([1.5, 0, 1.5], rotation_z(np.pi / 3 * index)[:3, :3] @ looking_forward)


def actor_box(index: int, name: str, seconds: float) -> list[float]:
    """World box of the ``index``-th actor; the car drives at 4 m/s along +y."""
    angle = 2 * np.pi * index / len(CLASSES)
    x, y = 101 + 15 * np.cos(angle), 200 + 15 * np.sin(angle)
    y += 4.0 * seconds if name == "car" else 0.0
    length, width, height = CLASSES[name][1]
    return [x, y, height / 2, length, width, height, np.pi / 2 if name == "car" else 0.3 * index]


def sweep_points(seed: int) -> np.ndarray:
    """300 points around the sensor and 20 on the vehicle itself."""
    rng = np.random.default_rng(seed)
    points = np.empty((320, 5), np.float32)
    points[:300, :3] = rng.uniform([-40, 2, -2], [40, 40, 2], (300, 3))
    points[300:, :3] = rng.uniform(-0.9, 0.9, (20, 3))
    points[:, 3] = rng.integers(0, 256, 320)
    points[:, 4] = rng.integers(0, 32, 320)
    return points


def fill_scene(scene, *, offset_us: int) -> None:
    start = START_US + offset_us
    intrinsic = np.array([[20.0, 0, 15.5], [0, 20, 8.5], [0, 0, 1]])
    scene.add_sensor("LIDAR_TOP", LIDAR2EGO)
    for index, channel in enumerate(CAMERAS):
        scene.add_sensor(channel, camera2ego(index), intrinsic)
    for step in range((NUM_SAMPLES - 1) * (SWEEPS_BETWEEN + 1) + 1):
        time, seconds = start + step * STEP_US, step * STEP_US * 1e-6
        sample = scene.add_sample(time) if step % (SWEEPS_BETWEEN + 1) == 0 else None
        scene.add_lidar("LIDAR_TOP", time, ego_pose(seconds), sweep_points(step), sample=sample)
        if sample is None:
            continue
        for index, channel in enumerate(CAMERAS):
            late = 10_000 * (index + 1)
            image = np.full((*IMAGE_SIZE, 3), (40 * index, 100, 200), np.uint8)
            scene.add_image(channel, time + late, ego_pose(seconds + late * 1e-6), image, sample=sample)
        for index, (name, (category, _, attribute)) in enumerate(CLASSES.items()):
            box = actor_box(index, name, seconds)
            scene.add_annotation(sample, name, category, box, num_lidar_pts=5, attribute=attribute)
        box = [130, 230, 0.5, 1, 1, 1, 0]
        scene.add_annotation(sample, "hidden cone", "movable_object.trafficcone", box, num_lidar_pts=0)
        scene.add_annotation(sample, "dog", "animal", [105, 205, 0.5, 1, 0.4, 0.6, 0], num_lidar_pts=3)


def write_tiny_root(root: Path, *, version: str = VERSION) -> Path:
    with NuScenesWriter(root, version) as writer:
        for index, split in enumerate(SPLITS):
            scene = writer.new_scene(f"sim-{index:04d}", split=split, location="boston-seaport")
            fill_scene(scene, offset_us=index * 100_000_000)
            writer.add_scene(scene)
        layers = MapLayers(canvas_edge=(300, 300))
        layers.add_polygon("drivable_area", [(90, 190), (140, 190), (140, 210), (90, 210)])
        layers.add_polygon("ped_crossing", [(100, 190), (104, 190), (104, 210), (100, 210)])
        layers.add_line("lane_divider", [(90, 200), (140, 200)])
        mask = np.zeros((3000, 3000), np.uint8)
        mask[900:1100, 900:1400] = 255
        writer.set_map("boston-seaport", mask, layers)
    return root
