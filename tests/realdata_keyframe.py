# SPDX-License-Identifier: Apache-2.0
"""Writes the real nuScenes keyframe as a data set of one sample, by the writer that the simulator uses."""

import json
from pathlib import Path

import numpy as np

from pcperc.geometry import invert_rigid, transform_boxes
from pcperc.simulation.nuscenes_writer import NuScenesWriter

VERSION, SPLIT, SCENE = "v1.0-keyframe", "keyframe_val", "keyframe-n015"
FOLDER = "nuscenes/keyframe_n015_ca9a282c"
CATEGORIES = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "bus": "vehicle.bus.rigid",
    "bicycle": "vehicle.bicycle",
    "construction_vehicle": "vehicle.construction",
    "pedestrian": "human.pedestrian.adult",
    "traffic_cone": "movable_object.trafficcone",
    "barrier": "movable_object.barrier",
}


def orthonormal(matrix) -> np.ndarray:
    """Remove the float32 rounding of a recorded pose, as storing it as a quaternion does."""
    matrix = np.array(matrix, np.float64)
    u, _, v = np.linalg.svd(matrix[:3, :3])
    matrix[:3, :3] = u @ v
    return matrix


def load_keyframe(realdata: Path) -> dict:
    return json.loads((realdata / FOLDER / "keyframe.json").read_text())


def write_keyframe_root(realdata: Path, root: Path) -> Path:
    """Write the keyframe under ``root`` and return it. The box named '-1' has no class and is skipped."""
    keyframe = load_keyframe(realdata)
    lidar2ego, ego2global = orthonormal(keyframe["lidar2ego"]), orthonormal(keyframe["ego2global"])
    lidar2global = ego2global @ lidar2ego
    name = keyframe["lidar"]["file"]
    timestamp = int(name.split("__")[-1].split(".")[0])
    with NuScenesWriter(root, VERSION) as writer:
        scene = writer.new_scene(SCENE, split=SPLIT, location="singapore-onenorth")
        sample = scene.add_sample(timestamp, token=keyframe["token"])
        scene.add_sensor("LIDAR_TOP", lidar2ego)
        points = np.fromfile(realdata / FOLDER / name, np.float32).reshape(-1, 5)
        scene.add_lidar("LIDAR_TOP", timestamp, ego2global, points, sample=sample)
        for channel, camera in keyframe["cams"].items():
            camera2ego = orthonormal(camera["cam2ego"])
            scene.add_sensor(channel, camera2ego, camera["K"])
            # The ego pose at the image's time follows from lidar2cam, which contains the motion since the sweep.
            camera2global = lidar2global @ invert_rigid(orthonormal(camera["lidar2cam"]))
            time = round(camera["timestamp"] * 1e6)
            image = (realdata / FOLDER / camera["file"]).read_bytes()
            scene.add_image(channel, time, orthonormal(camera2global @ invert_rigid(camera2ego)), image, sample=sample)
        for index, row in enumerate(keyframe["boxes"]):
            if row["name"] not in CATEGORIES:
                continue
            box = transform_boxes(np.array([row["box"]]), lidar2global, upright="target")[0]
            category = CATEGORIES[row["name"]]
            scene.add_annotation(sample, f"object {index}", category, box, num_lidar_pts=row["num_lidar_pts"])
        writer.add_scene(scene)
    return root
