# SPDX-License-Identifier: Apache-2.0
"""A sample of nuScenes as a line of the index: paths, times, matrices and the boxes of the project's classes."""

from __future__ import annotations

import numpy as np

from pcperc.datasets.nuscenes_tables import CAMERAS, LIDAR, NuScenesTables
from pcperc.geometry import boxes_from_nuscenes, invert_rigid

# The class order of the project (docs/conventions.md) and the categories that make each class; those of None are
# annotated but not detected.
CLASSES = (
    "car",
    "truck",
    "construction_vehicle",
    "bus",
    "trailer",
    "barrier",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic_cone",
)
CLASS_OF_CATEGORY = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.construction": "construction_vehicle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.trailer": "trailer",
    "movable_object.barrier": "barrier",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
    "human.pedestrian.wheelchair": None,
    "human.pedestrian.stroller": None,
    "human.pedestrian.personal_mobility": None,
    "animal": None,
    "vehicle.emergency.ambulance": None,
    "vehicle.emergency.police": None,
    "movable_object.pushable_pullable": None,
    "movable_object.debris": None,
    "static_object.bicycle_rack": None,
}


def describe_sample(tables: NuScenesTables, sample: dict, scene: dict, *, num_sweeps: int) -> dict:
    """Return the content of a line of the index; paths are relative to the root, matrices are nested lists."""
    frames = tables.key_frames.get(sample["token"], {})
    if LIDAR not in frames:
        raise ValueError(f"nuScenes: table sample_data.json must have a {LIDAR} key frame of sample {sample['token']}")
    lidar = frames[LIDAR]
    lidar2ego, ego2global = tables.sensor2ego(lidar), tables.ego2global(lidar)
    lidar2global = ego2global @ lidar2ego
    cameras = {}
    for channel in CAMERAS:
        if channel in frames:
            row = frames[channel]
            camera2global = tables.ego2global(row) @ tables.sensor2ego(row)
            cameras[channel] = {
                "path": row["filename"],
                "timestamp_us": row["timestamp"],
                "size": [row.get("height", 0), row.get("width", 0)],
                "lidar2camera": _rounded(invert_rigid(camera2global) @ lidar2global),
                "camera2image": _rounded(tables.camera2image(row)),
            }
    return {
        "sample_token": sample["token"],
        "scene_name": scene["name"],
        "location": tables.log[scene["log_token"]]["location"],
        "timestamp_us": sample["timestamp"],
        "prev": sample["prev"],
        "next": sample["next"],
        "lidar": {"path": lidar["filename"], "timestamp_us": lidar["timestamp"], "token": lidar["token"]},
        "lidar2ego": _rounded(lidar2ego),
        "ego2global": _rounded(ego2global),
        "sweeps": _older_sweeps(tables, lidar, lidar2global, num_sweeps),
        "cameras": cameras,
        **_annotations(tables, sample["token"], lidar2global),
    }


def _older_sweeps(tables: NuScenesTables, key: dict, lidar2global: np.ndarray, num_sweeps: int) -> list[dict]:
    """List the sweeps before the key sweep, newest first; fewer where the scene begins."""
    sweeps, row, global2lidar = [], key, invert_rigid(lidar2global)
    while row["prev"] and len(sweeps) < num_sweeps:
        row = tables.lidar[row["prev"]]
        sweep2lidar = global2lidar @ tables.ego2global(row) @ tables.sensor2ego(row)
        time_lag = (key["timestamp"] - row["timestamp"]) * 1e-6
        sweeps.append({"path": row["filename"], "time_lag": round(time_lag, 6), "sweep2lidar": _rounded(sweep2lidar)})
    return sweeps


def _annotations(tables: NuScenesTables, token: str, lidar2global: np.ndarray) -> dict:
    """Describe the objects of a sample that belong to a detection class; valid ones have a LiDAR or radar point."""
    rows, names = [], []
    for row in tables.annotations.get(token, ()):
        category = tables.category_of[row["instance_token"]]
        if category not in CLASS_OF_CATEGORY:
            raise ValueError(
                f"nuScenes: category of annotation {row['token']} must be one of {', '.join(CLASS_OF_CATEGORY)}, "
                f"got {category!r}"
            )
        if CLASS_OF_CATEGORY[category] is not None:
            rows.append(row)
            names.append(CLASS_OF_CATEGORY[category])
    boxes = boxes_from_nuscenes(
        [row["translation"] for row in rows],
        [row["size"] for row in rows],
        [row["rotation"] for row in rows],
        [tables.velocity(row) for row in rows],
        invert_rigid(lidar2global),
    )
    return {
        "boxes": [[round(v, 6) if np.isfinite(v) else None for v in box] for box in boxes.tolist()],
        "names": names,
        "instances": [row["instance_token"] for row in rows],
        "num_lidar_pts": [row["num_lidar_pts"] for row in rows],
        "num_radar_pts": [row["num_radar_pts"] for row in rows],
        "valid": [row["num_lidar_pts"] + row["num_radar_pts"] > 0 for row in rows],
    }


def _rounded(matrix: np.ndarray) -> list[list[float]]:
    """Return nested lists at a nanometre and a nanoradian: half the file, and far below any calibration error."""
    return np.round(matrix, 9).tolist()
