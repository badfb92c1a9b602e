# SPDX-License-Identifier: Apache-2.0
"""One scene of a nuScenes data set while it is being written: its sensor files and its rows of the tables."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from pcperc.geometry import matrix_to_quaternion

CATEGORIES = (
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.wheelchair",
    "human.pedestrian.stroller",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.construction_worker",
    "animal",
    "vehicle.car",
    "vehicle.motorcycle",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.truck",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.trailer",
    "movable_object.barrier",
    "movable_object.trafficcone",
    "movable_object.pushable_pullable",
    "movable_object.debris",
    "static_object.bicycle_rack",
)
ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "pedestrian.moving",
)
VISIBILITY_LEVELS = {1: "v0-40", 2: "v40-60", 3: "v60-80", 4: "v80-100"}


def make_token(*names) -> str:
    """Return the 32 hexadecimal digits that stand for ``names``; equal names give equal tokens."""
    return hashlib.sha256("/".join(map(str, names)).encode()).hexdigest()[:32]


class SceneWriter:
    """Writes the sensor files of one scene and collects its table rows. Made by ``NuScenesWriter.new_scene``."""

    def __init__(self, root: Path, name: str, *, split: str, location: str, log: str, description: str) -> None:
        self.root, self.name, self.split, self.location, self.log = Path(root), name, split, location, log
        self.description = description
        self.token = make_token("scene", name)
        self.sensors: dict[str, dict] = {}
        self.samples: list[dict] = []
        self.sample_data: dict[str, list[dict]] = defaultdict(list)
        self.ego_poses: list[dict] = []
        self.annotations: dict[str, list[dict]] = defaultdict(list)
        self.categories: dict[str, str] = {}

    def add_sensor(self, channel: str, sensor2ego, camera2image=None) -> None:
        """Declare a sensor of this scene.

        Args:
            channel: LIDAR_TOP, CAM_FRONT, ... or RADAR_...; the part before "_" gives the modality.
            sensor2ego: (4, 4) rigid.
            camera2image: (3, 3) intrinsics, for cameras only.
        """
        modality = {"LIDAR": "lidar", "CAM": "camera", "RADAR": "radar"}.get(channel.split("_")[0])
        if modality is None:
            raise ValueError(f"add_sensor: channel must begin with LIDAR_, CAM_ or RADAR_, got {channel!r}")
        if (modality == "camera") != (camera2image is not None):
            raise ValueError(f"add_sensor: camera2image must be given for cameras and for nothing else ({channel})")
        sensor2ego = _rigid("add_sensor: sensor2ego", sensor2ego)
        self.sensors[channel] = {
            "token": make_token("calibrated_sensor", self.name, channel),
            "sensor_token": make_token("sensor", channel),
            "translation": sensor2ego[:3, 3].tolist(),
            "rotation": matrix_to_quaternion(sensor2ego).tolist(),
            "camera_intrinsic": [] if camera2image is None else np.asarray(camera2image, np.float64).tolist(),
            "modality": modality,
        }

    def add_sample(self, timestamp: int, *, token: str | None = None) -> str:
        """Add an annotated moment at ``timestamp`` (microseconds, later than the one before); returns its token."""
        if self.samples and timestamp <= self.samples[-1]["timestamp"]:
            raise ValueError(f"add_sample: timestamp must be after {self.samples[-1]['timestamp']}, got {timestamp}")
        token = token or make_token("sample", self.name, int(timestamp))
        self.samples.append({"token": token, "timestamp": int(timestamp), "scene_token": self.token})
        return token

    def add_lidar(self, channel: str, timestamp: int, ego2global, points, *, sample: str | None = None) -> str:
        """Write one sweep.

        Args:
            channel: a declared sensor.
            timestamp: microseconds, after the channel's previous one.
            ego2global: (4, 4) rigid, at ``timestamp``.
            points: (N, 5) float32 ``[x, y, z, intensity 0-255, ring]`` in the sensor's frame.
            sample: token of the sample of which this is the key sweep; None for a sweep in between.
        Returns:
            The token of the sample_data row.
        """
        points = np.asarray(points)
        if points.ndim != 2 or points.shape[1] != 5 or points.dtype != np.float32:
            raise ValueError(f"add_lidar: points must be (N, 5) float32, got {points.shape} {points.dtype}")
        record = self._sample_data(channel, timestamp, ego2global, sample, "pcd", ".pcd.bin", (0, 0))
        write_file(self.root / record["filename"], np.ascontiguousarray(points).tobytes())
        return record["token"]

    def add_image(self, channel: str, timestamp: int, ego2global, image, *, sample=None, quality: int = 90) -> str:
        """Write one camera image.

        Args:
            channel, timestamp, ego2global, sample: as in ``add_lidar``.
            image: (H, W, 3) uint8 RGB, or the bytes of a JPEG file, which are written as they are.
            quality: of the JPEG, 0 to 100.
        """
        if isinstance(image, bytes):
            decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
            if decoded is None:
                raise ValueError("add_image: image must be the bytes of a JPEG file, but they do not decode")
            height, width = decoded.shape[:2]
        else:
            image = np.asarray(image)
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise ValueError(f"add_image: image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
            height, width = image.shape[:2]
            image = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        record = self._sample_data(channel, timestamp, ego2global, sample, "jpg", ".jpg", (height, width))
        write_file(self.root / record["filename"], image)
        return record["token"]

    def add_annotation(
        self,
        sample: str,
        instance: str,
        category: str,
        box,
        *,
        num_lidar_pts: int,
        num_radar_pts: int = 0,
        attribute: str = "",
        visibility: int = 4,
    ) -> str:
        """Annotate an object in a sample.

        Args:
            sample: token of a sample of this scene.
            instance: name of the object, the same in every sample of the scene.
            category: one of ``CATEGORIES``.
            box: (7 or more,) ``[x, y, z, l, w, h, yaw, ...]`` in the world frame; a velocity is not stored, readers
                derive it from the positions in neighbouring samples.
            attribute: one of ``ATTRIBUTES``, or "" for none.
            visibility: 1 to 4, from 0-40 % to 80-100 % of the object visible.
        """
        known = {"category": (category, CATEGORIES), "attribute": (attribute, ("", *ATTRIBUTES))}
        known["visibility"] = (visibility, VISIBILITY_LEVELS)
        known["sample"] = (sample, [row["token"] for row in self.samples])
        for key, (value, options) in known.items():
            if value not in options:
                listed = ", ".join(map(str, options)) if key != "sample" else "a sample of this scene"
                raise ValueError(f"add_annotation: {key} must be one of {listed}, got {value!r}")
        if self.categories.setdefault(instance, category) != category:
            raise ValueError(f"add_annotation: {instance} is {self.categories[instance]}, cannot become {category}")
        box = np.asarray(box, np.float64)
        if box.ndim != 1 or len(box) < 7 or not np.isfinite(box[:7]).all() or not (box[3:6] > 0).all():
            raise ValueError(f"add_annotation: box must be 7 finite numbers with sizes > 0, got {box.tolist()}")
        token = make_token("annotation", self.name, instance, sample)
        rows = self.annotations[instance]
        if rows and rows[-1]["sample_token"] == sample:
            raise ValueError(f"add_annotation: {instance} is annotated twice in sample {sample}")
        rows.append(
            {
                "token": token,
                "sample_token": sample,
                "instance_token": make_token("instance", self.name, instance),
                "visibility_token": str(visibility),
                "attribute_tokens": [make_token("attribute", attribute)] if attribute else [],
                "translation": box[:3].tolist(),
                "size": [box[4], box[3], box[5]],
                "rotation": [float(np.cos(box[6] / 2)), 0.0, 0.0, float(np.sin(box[6] / 2))],
                "num_lidar_pts": int(num_lidar_pts),
                "num_radar_pts": int(num_radar_pts),
            }
        )
        return token

    def _sample_data(self, channel, timestamp, ego2global, sample, fileformat, suffix, size) -> dict:
        """Collect the rows of one sensor file and return its sample_data row."""
        if channel not in self.sensors:
            raise ValueError(f"SceneWriter: channel {channel} is not declared, known: {', '.join(self.sensors)}")
        rows = self.sample_data[channel]
        if rows and timestamp <= rows[-1]["timestamp"]:
            raise ValueError(f"SceneWriter: {channel} must come after {rows[-1]['timestamp']}, got {timestamp}")
        ego2global = _rigid("SceneWriter: ego2global", ego2global)
        token = make_token("sample_data", self.name, channel, int(timestamp))
        folder = "sweeps" if sample is None else "samples"
        pose = {"translation": ego2global[:3, 3].tolist(), "rotation": matrix_to_quaternion(ego2global).tolist()}
        self.ego_poses.append({"token": token, "timestamp": int(timestamp), **pose})
        rows.append(
            {
                "token": token,
                "sample_token": sample,
                "ego_pose_token": token,
                "calibrated_sensor_token": self.sensors[channel]["token"],
                "filename": f"{folder}/{channel}/{self.name}__{channel}__{int(timestamp)}{suffix}",
                "fileformat": fileformat,
                "height": size[0],
                "width": size[1],
                "timestamp": int(timestamp),
                "is_key_frame": sample is not None,
            }
        )
        return rows[-1]


def _rigid(what: str, matrix) -> np.ndarray:
    matrix = np.asarray(matrix, np.float64)
    if matrix.shape != (4, 4) or np.abs(matrix[:3, :3] @ matrix[:3, :3].T - np.eye(3)).max() > 1e-4:
        raise ValueError(f"{what} must be a rigid (4, 4) matrix, got {matrix.tolist()}")
    return matrix


def write_file(path: Path, content: bytes) -> None:
    """Write a file, making its folder where missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
