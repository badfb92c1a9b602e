# SPDX-License-Identifier: Apache-2.0
"""The sensor data set of Argoverse 2, real or simulated: LiDAR sweeps at 10 Hz, ring cameras, boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pcperc.datasets.argoverse2_log import (
    POSE,
    Log,
    city_name,
    image_times,
    pose_at,
    read_log,
    read_poses,
    read_sweep,
    sweep_times,
)
from pcperc.datasets.image_file import read_image
from pcperc.datasets.recent import Recent
from pcperc.datasets.transformed import TransformedDataset
from pcperc.geometry import invert_rigid, transform_points
from pcperc.registry import DATASETS
from pcperc.tables import read_table, stack_columns, whole_numbers

# The categories that the official evaluation scores, in its order.
CATEGORIES = (
    "ARTICULATED_BUS", "BICYCLE", "BICYCLIST", "BOLLARD", "BOX_TRUCK", "BUS", "CONSTRUCTION_BARREL",
    "CONSTRUCTION_CONE", "DOG", "LARGE_VEHICLE", "MESSAGE_BOARD_TRAILER", "MOBILE_PEDESTRIAN_CROSSING_SIGN",
    "MOTORCYCLE", "MOTORCYCLIST",
    "PEDESTRIAN", "REGULAR_VEHICLE", "SCHOOL_BUS", "SIGN", "STOP_SIGN", "STROLLER", "TRUCK", "TRUCK_CAB",
    "VEHICULAR_TRAILER", "WHEELCHAIR", "WHEELED_DEVICE", "WHEELED_RIDER",
)  # fmt: skip
RING_CAMERAS = (
    "ring_front_center", "ring_front_right", "ring_front_left", "ring_side_right", "ring_side_left", "ring_rear_right",
    "ring_rear_left",
)  # fmt: skip
MODALITIES = ("lidar", "camera")
MAX_IMAGE_GAP_NS = 100_000_000  # from a sweep to an image of a camera, which takes 20 a second
_LOGS_KEPT = 4


@DATASETS.register_module()
class Argoverse2(TransformedDataset):
    """Annotated sweeps of one split, as docs/conventions.md lays samples out; reads files, never augments.

    Points and boxes are in the vehicle's frame at the time of the sweep (x forward, y left, z up, origin at the rear
    axle), as published: it stands for the LiDAR's frame, and ``lidar2ego`` is the identity. Velocities are those of
    the boxes of the same track before and after. The token of a sample is ``<log>/<time in ns>``; ``tokens`` lists all.

    Args:
        root: folder with a folder for each split.
        split: train, val or test; logs without annotations give every sweep, without ``boxes``.
        transforms: callables applied in order to each sample; one that returns None drops the sample.
        num_sweeps: older sweeps, each moved by the recorded ego motion; fewer where the log begins.
        modalities: "lidar", "camera" or both. Images are those nearest in time, of ``cameras``, within 0.1 s.
        cameras: names of the folders in sensors/cameras.
        classes: categories of `CATEGORIES`; labels index into it. Boxes of others are left out, and boxes without a
            point.
        test_mode: a sample that a transform drops is an error instead of being replaced by another one.
    Raises:
        ImportError: no pyarrow.
        FileNotFoundError: no such split, or a log without LiDAR.
        ValueError: an argument names something unknown, or there is no sweep.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        split: str,
        transforms: Sequence[Callable[[dict], dict | None]] = (),
        num_sweeps: int = 4,
        modalities: Sequence[str] = ("lidar",),
        cameras: Sequence[str] = RING_CAMERAS,
        classes: Sequence[str] = CATEGORIES,
        test_mode: bool = False,
    ) -> None:
        super().__init__(split=split, transforms=transforms, test_mode=test_mode)
        for name, given, known in (("modalities", modalities, MODALITIES), ("classes", classes, CATEGORIES)):
            unknown = [value for value in given if value not in known]
            if unknown or not given:
                raise ValueError(f"Argoverse2: {name} must be of {', '.join(known)}, got {list(given)}")
        if num_sweeps < 0:
            raise ValueError(f"Argoverse2: num_sweeps must be 0 or more, got {num_sweeps}")
        self.root, self.num_sweeps = Path(root), int(num_sweeps)
        self.modalities, self.cameras, self.classes = tuple(modalities), tuple(cameras), tuple(classes)
        folder = self.root / split
        if not folder.is_dir():
            known = ", ".join(sorted(path.name for path in self.root.glob("*") if path.is_dir()))
            raise FileNotFoundError(f"Argoverse2: {folder} is missing (known: {known}); data/README.md shows the tree")
        self._logs = Recent(self._read_log, most=_LOGS_KEPT)
        self._times = {log.name: sweep_times(log) for log in sorted(folder.iterdir()) if log.is_dir()}
        self._samples = [(name, time) for name, times in self._times.items() for time in self._annotated(name, times)]
        if not self._samples:
            raise ValueError(f"Argoverse2: {folder} must have logs with sweeps, got none")
        self.tokens = [f"{name}/{time}" for name, time in self._samples]

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def metainfo(self) -> dict:
        """What an evaluator needs to know of this data set."""
        return {"classes": self.classes, "root": str(self.root), "split": self.split}

    def read_sample(self, index: int) -> dict:
        """Return a sample without transforms.

        Raises:
            IndexError: no such sample.
            FileNotFoundError, ValueError: a file is missing, truncated or holds something else, a pose is missing, or
                the log has no image of a camera near the sweep; the message names it.
        """
        index = self.check_index(index)
        name, time = self._samples[index]
        log = self.log(name)
        sample = {
            "sample_token": self.tokens[index],
            "scene_name": name,
            "location": city_name(log.folder),
            "sample_index": index,
            "timestamp": time * 1e-9,
            "lidar2ego": np.eye(4),
            "ego2global": pose_at(log, time),
            "lidar_aug": np.eye(4),
        }
        if log.boxes is not None:
            sample |= self.read_boxes(index)
        if "lidar" in self.modalities:
            sample["points"] = self._read_points(log, time)
        if "camera" in self.modalities:
            sample |= self._read_cameras(log, time)
        return sample

    def read_boxes(self, index: int) -> dict[str, np.ndarray]:
        """Return ``boxes``, ``labels`` and ``num_lidar_pts`` of a sample's boxes that hold a point.

        Raises:
            FileNotFoundError: the log has no annotations.
        """
        name, time = self._samples[self.check_index(index)]
        log = self.log(name)
        if log.boxes is None:
            raise FileNotFoundError(f"Argoverse2: {log.folder / 'annotations.feather'} is missing, split {self.split}")
        boxes, categories, counts, _ = log.boxes[time]
        keep = np.isin(categories, self.classes) & (counts > 0)
        return {
            "boxes": boxes[keep].astype(np.float32),
            "labels": np.array([self.classes.index(category) for category in categories[keep]], np.int64),
            "num_lidar_pts": counts[keep],
        }

    def sample_labels(self, index: int) -> np.ndarray:
        """Return the labels of the boxes of a sample, (K,) int64, without reading points or images."""
        return self.read_boxes(index)["labels"]

    def log(self, name: str) -> Log:
        """Return the tables of a log; the last few are kept."""
        return self._logs(name)

    def _read_log(self, name: str) -> Log:
        return read_log(self.root / self.split / name)

    def _annotated(self, name: str, times: list[int]) -> list[int]:
        path = self.root / self.split / name / "annotations.feather"
        if not path.is_file():
            return times
        annotated = whole_numbers(path, read_table(path, ["timestamp_ns"]), "timestamp_ns")
        return sorted(set(times) & set(annotated.tolist()))

    def _read_points(self, log: Log, time: int) -> np.ndarray:
        times = self._times[log.folder.name]
        position = times.index(time)
        city2ego = invert_rigid(pose_at(log, time))
        sweeps = []
        for older in times[max(0, position - self.num_sweeps) : position + 1][::-1]:
            points = read_sweep(log.folder / "sensors" / "lidar" / f"{older}.feather")
            if older != time:
                points = transform_points(points, city2ego @ pose_at(log, older))
            points[:, 4] = (time - older) * 1e-9
            sweeps.append(points)
        return np.concatenate(sweeps)

    def _read_cameras(self, log: Log, time: int) -> dict:
        pose_path, path = (
            log.folder / "calibration" / f"{name}.feather" for name in ("egovehicle_SE3_sensor", "intrinsics")
        )
        mounted = read_table(pose_path, ["sensor_name", *POSE])
        camera2ego = read_poses(pose_path, mounted)
        columns = ["fx_px", "fy_px", "cx_px", "cy_px"]
        table = read_table(path, ["sensor_name", *columns])
        focal = stack_columns(path, table, columns)
        images, lidar2camera, camera2image = [], [], []
        for camera in self.cameras:
            rows = [np.flatnonzero(names["sensor_name"] == camera) for names in (mounted, table)]
            times = image_times(log.folder, camera)
            if not times or any(len(row) != 1 for row in rows):
                raise ValueError(f"Argoverse2: log {log.folder} must have images and calibration of {camera}")
            nearest = min(times, key=lambda t: (abs(t - time), t))
            if abs(nearest - time) > MAX_IMAGE_GAP_NS:
                raise ValueError(
                    f"Argoverse2: log {log.folder} must have an image of {camera} within {MAX_IMAGE_GAP_NS * 1e-9} s "
                    f"of the sweep at {time} ns, the nearest is {abs(nearest - time) * 1e-9:.3f} s away"
                )
            images.append(read_image(times[nearest]))
            camera2city = pose_at(log, nearest) @ camera2ego[rows[0][0]]
            lidar2camera.append(invert_rigid(camera2city) @ pose_at(log, time))
            fx, fy, cx, cy = focal[rows[1][0]]
            camera2image.append([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        return {
            "images": images,
            "lidar2camera": np.array(lidar2camera),
            "camera2image": np.array(camera2image, np.float64),
            "image_aug": np.tile(np.eye(3), (len(images), 1, 1)),
        }
