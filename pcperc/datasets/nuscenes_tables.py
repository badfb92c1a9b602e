# SPDX-License-Identifier: Apache-2.0
"""Reads the JSON tables of a nuScenes version, keeping only what an index of samples needs.

The devkit's NuScenes class keeps every row of every table; for v1.0-trainval that is some ten gigabytes. Here the rows
of radars and of images between samples are dropped while their table is parsed.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pcperc.geometry import rigid_matrix

LIDAR = "LIDAR_TOP"
CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")

_REQUIRED_KEYS = {
    "sensor": ("token", "channel"),
    "calibrated_sensor": ("token", "sensor_token", "translation", "rotation", "camera_intrinsic"),
    "log": ("token", "location"),
    "scene": ("token", "name", "log_token", "first_sample_token"),
    "sample": ("token", "timestamp", "scene_token", "next", "prev"),
    "sample_data": (
        *("token", "sample_token", "ego_pose_token", "calibrated_sensor_token"),
        *("filename", "timestamp", "is_key_frame", "prev"),
    ),
    "ego_pose": ("token", "translation", "rotation"),
    "category": ("token", "name"),
    "instance": ("token", "category_token"),
    "sample_annotation": (
        *("token", "sample_token", "instance_token", "translation", "size", "rotation"),
        *("num_lidar_pts", "num_radar_pts", "prev", "next"),
    ),
}
# How many numbers these keys hold, in whichever table.
_NUMBERS = {"translation": 3, "rotation": 4, "size": 3}
_INTEGERS = ("timestamp", "num_lidar_pts", "num_radar_pts")
TABLE_NAMES = tuple(_REQUIRED_KEYS)  # in the order of reading; scenes are read by whoever needs them


class Table(dict):
    """Rows by token; a token that is not there ends in a message instead of a KeyError."""

    def __init__(self, name: str, rows: list[dict]) -> None:
        super().__init__((row["token"], row) for row in rows)
        self.name = name

    def __missing__(self, token):
        raise ValueError(f"nuScenes: table {self.name}.json must have a row with token {token!r}, which a table names")


def table_folder(root: str | Path, version: str) -> Path:
    """Return the folder of the tables, or raise FileNotFoundError that says what is there instead."""
    folder = Path(root) / version
    if not folder.is_dir():
        found = sorted(p.parent.name for p in Path(root).glob("*/sample.json")) if Path(root).is_dir() else []
        there = f"versions found there: {', '.join(found)}" if found else "no version found there"
        raise FileNotFoundError(f"nuScenes: folder {folder} with the tables of {version} is missing; {there}")
    return folder


def read_table(folder: Path, name: str, keep: Callable[[dict], bool] = lambda row: True) -> list[dict]:
    """Read the rows of one table for which ``keep`` is true; the others are dropped while the file is parsed.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is no JSON list of rows, or a row lacks a key or holds something else under it.
    """
    path = folder / f"{name}.json"
    required = set(_REQUIRED_KEYS[name])

    def check(row: dict) -> dict | None:
        if not required <= row.keys():
            missing = sorted(required - row.keys())
            raise ValueError(f"nuScenes: rows of table {path} must have the keys {missing}, got {sorted(row)}")
        if not keep(row):
            return None
        _check_values(row, required, path)
        return row

    try:
        with open(path, encoding="utf-8") as file:
            rows = json.load(file, object_hook=check)
    except FileNotFoundError as error:
        hint = "the metadata archive of the data set holds it"
        raise FileNotFoundError(f"nuScenes: table {path} is missing; {hint}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"nuScenes: table {path} must be JSON, but cannot be read (truncated?): {error}") from error
    if not isinstance(rows, list) or not all(row is None or isinstance(row, dict) for row in rows):
        raise ValueError(f"nuScenes: table {path} must be a JSON list of objects")
    return [row for row in rows if row is not None]


def _check_values(row: dict, keys: set[str], path: Path) -> None:
    """Raise ValueError where a key of poses, boxes or times does not hold finite numbers, or a size is not positive."""
    for key in keys & _NUMBERS.keys():
        value, count = row[key], _NUMBERS[key]
        good = isinstance(value, list) and len(value) == count
        if not good or not all(isinstance(v, int | float) and math.isfinite(v) for v in value):
            expected = f"{count} finite numbers"
        elif key == "size" and min(value) <= 0:
            expected = f"{count} numbers > 0"
        elif key == "rotation" and abs(math.hypot(*value) - 1) > 1e-3:
            expected = "a quaternion of length 1"
        else:
            continue
        raise ValueError(f"nuScenes: row {row['token']} of table {path}: '{key}' must be {expected}, got {value}")
    for key in keys.intersection(_INTEGERS):
        if not isinstance(row[key], int):
            raise ValueError(
                f"nuScenes: row {row['token']} of table {path}: '{key}' must be a whole number, got {row[key]!r}"
            )


class NuScenesTables:
    """The rows that describe samples, by token.

    Args:
        root: folder of the data set.
        version: name of its table folder.
        on_table: called with the name of each table before it is read; for a progress display.
    Attributes:
        sample, annotation: `Table`. lidar: `Table` of the LiDAR's sample_data.
        key_frames: sample token -> channel -> sample_data row.
        annotations: sample token -> annotation rows.
    """

    def __init__(self, root: str | Path, version: str, *, on_table: Callable[[str], None] = lambda name: None) -> None:
        folder = table_folder(root, version)

        def read(name: str, keep: Callable[[dict], bool] = lambda row: True) -> list[dict]:
            on_table(name)
            return read_table(folder, name, keep)

        self.version = version
        sensors = Table("sensor", read("sensor"))
        self.calibrated_sensor = Table("calibrated_sensor", read("calibrated_sensor"))
        channels = {t: sensors[row["sensor_token"]]["channel"] for t, row in self.calibrated_sensor.items()}
        self.log = Table("log", read("log"))
        self.sample = Table("sample", read("sample"))
        self.lidar = Table("sample_data", [])
        self.key_frames: dict[str, dict[str, dict]] = defaultdict(dict)

        def is_used(row: dict) -> bool:
            channel = channels.get(row["calibrated_sensor_token"])
            return channel == LIDAR or (channel in CAMERAS and row["is_key_frame"])

        rows = read("sample_data", is_used)
        for row in rows:
            channel = channels[row["calibrated_sensor_token"]]
            if channel == LIDAR:
                self.lidar[row["token"]] = row
            if row["is_key_frame"]:
                self.key_frames[row["sample_token"]][channel] = row
        poses = {row["ego_pose_token"] for row in rows}
        self.ego_pose = Table("ego_pose", read("ego_pose", lambda row: row["token"] in poses))
        self._read_annotations(read, may_lack=version.endswith("test"), folder=folder)

    def _read_annotations(self, read, *, may_lack: bool, folder: Path) -> None:
        """Read what is annotated; test sets are published without."""
        self.annotations: dict[str, list[dict]] = defaultdict(list)
        self.annotation, self.category_of = Table("sample_annotation", []), {}
        if may_lack and not (folder / "sample_annotation.json").is_file():
            return
        categories = Table("category", read("category"))
        instances = Table("instance", read("instance"))
        self.category_of = Table("instance", [])
        self.category_of.update((t, categories[row["category_token"]]["name"]) for t, row in instances.items())
        self.annotation = Table("sample_annotation", read("sample_annotation"))
        for row in self.annotation.values():
            self.annotations[row["sample_token"]].append(row)

    def sensor2ego(self, sample_data: dict) -> np.ndarray:
        """Return the (4, 4) mounting of the sensor that took ``sample_data``."""
        row = self.calibrated_sensor[sample_data["calibrated_sensor_token"]]
        return rigid_matrix(row["translation"], row["rotation"])

    def camera2image(self, sample_data: dict) -> np.ndarray:
        """Return the (3, 3) intrinsics of the camera that took ``sample_data``."""
        token = sample_data["calibrated_sensor_token"]
        matrix = np.array(self.calibrated_sensor[token]["camera_intrinsic"], np.float64)
        if matrix.shape != (3, 3):
            raise ValueError(
                f"nuScenes: camera_intrinsic of {token} in calibrated_sensor must be 3 x 3, got {matrix.shape}"
            )
        return matrix

    def ego2global(self, sample_data: dict) -> np.ndarray:
        """Return the (4, 4) pose of the vehicle at the time of ``sample_data``."""
        row = self.ego_pose[sample_data["ego_pose_token"]]
        return rigid_matrix(row["translation"], row["rotation"])

    def velocity(self, annotation: dict, *, max_gap: float = 1.5) -> np.ndarray:
        """Return the (2,) velocity of an object in the world, NaN where it cannot be told.

        The central difference between the samples before and after, or the one-sided difference where one of them is
        missing. Unknown where the object is annotated once, or where the samples are more than ``max_gap`` seconds
        apart (twice that for the central difference).
        Source: NuScenes.box_velocity of nuscenes-devkit 1.2.0, which the evaluation uses.
        """
        first = self.annotation[annotation["prev"]] if annotation["prev"] else annotation
        last = self.annotation[annotation["next"]] if annotation["next"] else annotation
        if first is last:
            return np.full(2, np.nan)
        times = [self.sample[row["sample_token"]]["timestamp"] * 1e-6 for row in (first, last)]
        allowed = max_gap * (2 if annotation["prev"] and annotation["next"] else 1)
        elapsed = times[1] - times[0]
        if elapsed > allowed or elapsed <= 0:
            return np.full(2, np.nan)
        return (np.array(last["translation"][:2]) - np.array(first["translation"][:2])) / elapsed
