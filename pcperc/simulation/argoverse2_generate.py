# SPDX-License-Identifier: Apache-2.0
"""Writes simulated logs in the layout of Argoverse 2's sensor data set: LiDAR at 10 Hz, poses, boxes, no cameras."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcperc.geometry import matrix_to_quaternion, transform_boxes, transform_points
from pcperc.simulation.data_set import SimulatedSet
from pcperc.simulation.driving.lidar import scan
from pcperc.simulation.driving.rig import make_rig
from pcperc.simulation.driving.scene import ANNOTATED_RANGE, count_points, locate, scene_world
from pcperc.tables import write_table

SWEEPS = {"tiny": 3, "small": 10, "full": 40}  # ten a second, all annotated
SWEEP_NS = 100_000_000
FIRST_TIME_NS = 1_600_000_000_000_000_000
CATEGORY = {
    "vehicle.car": "REGULAR_VEHICLE",
    "vehicle.truck": "TRUCK",
    "vehicle.construction": "LARGE_VEHICLE",
    "vehicle.bus.bendy": "ARTICULATED_BUS",
    "vehicle.bus.rigid": "BUS",
    "vehicle.trailer": "VEHICULAR_TRAILER",
    "vehicle.motorcycle": "MOTORCYCLE",
    "vehicle.bicycle": "BICYCLE",
    "human.pedestrian.adult": "PEDESTRIAN",
    "human.pedestrian.child": "PEDESTRIAN",
    "human.pedestrian.construction_worker": "PEDESTRIAN",
    "human.pedestrian.police_officer": "PEDESTRIAN",
    "movable_object.trafficcone": "CONSTRUCTION_CONE",
}  # what Argoverse 2 has no category for, such as barriers, is not annotated


@dataclass(frozen=True)
class Settings(SimulatedSet):
    """What fixes a simulated data set.

    Attributes:
        scenes: how many, at least 2, each a log. size: "tiny", "small" or "full" (``SWEEPS``). seed: any integer >= 0.
    """

    kind = "driving scenes in Argoverse 2 layout"
    parts = "scenes"
    generator = 1
    folder = "val"
    sizes = SWEEPS
    compiles = True
    least, least_is = 2, "train and val"

    scenes: int
    size: str
    seed: int

    def write_part(self, root: Path, index: int) -> None:
        """Simulate scene ``index`` into ``root/train`` or, every fourth, ``root/val``."""
        split = "val" if index % 4 == 3 or (self.scenes < 4 and index == self.scenes - 1) else "train"
        folder = root / split / f"sim-{index + 1:04d}-{locate(index)[0]}"
        world = scene_world(self.seed, index)
        rng = np.random.default_rng([self.seed, index, 3])
        rig = make_rig(rng)
        poses: list[tuple[int, np.ndarray]] = []
        rows: dict[str, list] = {
            name: [] for name in ("timestamp_ns", "track_uuid", "category", *_BOX, "num_interior_pts")
        }
        for turn in range(SWEEPS[self.size]):
            time, seconds = FIRST_TIME_NS + turn * SWEEP_NS, turn * SWEEP_NS * 1e-9
            ego = world.ego_pose(seconds)
            points, _ = scan(world.primitives(seconds), world.road, ego @ rig.lidar2ego, ego, rng)
            xyz = transform_points(points[:, :3].astype(np.float64), rig.lidar2ego).astype(np.float16)
            write_table(folder / "sensors" / "lidar" / f"{time}.feather", _sweep(xyz, points))
            poses.append((time, ego))
            _annotate(rows, time, world, seconds, ego, xyz.astype(np.float64))
        write_table(folder / "annotations.feather", rows)
        write_table(
            folder / "city_SE3_egovehicle.feather", {"timestamp_ns": [t for t, _ in poses], **_pose_columns(poses)}
        )
        sensors = [("up_lidar", rig.lidar2ego)]
        calibration = {"sensor_name": [name for name, _ in sensors], **_pose_columns(sensors)}
        write_table(folder / "calibration" / "egovehicle_SE3_sensor.feather", calibration)


_BOX = ("length_m", "width_m", "height_m", "qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")


def _sweep(xyz: np.ndarray, points: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of a sweep: half floats in the vehicle's frame, as published."""
    columns = {name: np.ascontiguousarray(xyz[:, axis]) for axis, name in enumerate("xyz")}
    columns["intensity"] = np.clip(np.rint(points[:, 3]), 0, 255).astype(np.uint8)
    columns["laser_number"] = points[:, 4].astype(np.uint8)
    return {**columns, "offset_ns": np.zeros(len(points), np.int32)}


def _annotate(rows: dict[str, list], time: int, world, seconds: float, ego: np.ndarray, points: np.ndarray) -> None:
    """Add the boxes of the actors in range; the points in them are counted as they are written."""
    world2ego = np.linalg.inv(ego)
    for index, actor in enumerate(world.actors):
        box = actor.box(seconds)
        if actor.category not in CATEGORY or math.hypot(*(box[:2] - ego[:2, 3])) >= ANNOTATED_RANGE:
            continue
        own = transform_boxes(np.asarray(box, np.float64)[None, :7], world2ego, upright="source")[0]
        half = own[6] / 2
        values = (*own[3:6], math.cos(half), 0.0, 0.0, math.sin(half), *own[:3])
        for name, value in zip(_BOX, values, strict=True):
            rows[name].append(float(value))
        rows["timestamp_ns"].append(time)
        rows["track_uuid"].append(f"sim-{index:04d}")
        rows["category"].append(CATEGORY[actor.category])
        rows["num_interior_pts"].append(int(count_points(points, own)))


def _pose_columns(poses: list[tuple]) -> dict[str, list]:
    """Return quaternions and translations of (name, (4, 4)) as columns."""
    quaternions = [matrix_to_quaternion(pose).tolist() for _, pose in poses]
    columns = {name: [q[i] for q in quaternions] for i, name in enumerate(("qw", "qx", "qy", "qz"))}
    return columns | {name: [float(pose[i, 3]) for _, pose in poses] for i, name in enumerate(("tx_m", "ty_m", "tz_m"))}
