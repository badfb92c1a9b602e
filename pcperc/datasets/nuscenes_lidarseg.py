# SPDX-License-Identifier: Apache-2.0
"""nuScenes-lidarseg, real or simulated: key sweeps with a class for each point."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pcperc.datasets.label_map import LabelMap
from pcperc.datasets.nuscenes import NuScenesDataset
from pcperc.datasets.nuscenes_tables import table_folder
from pcperc.datasets.transformed import read_file
from pcperc.geometry import IGNORED
from pcperc.registry import DATASETS

# The classes of the challenge; in its files they are 1 to 16 in this order.
CLASSES = (
    *("barrier", "bicycle", "bus", "car", "construction_vehicle", "motorcycle", "pedestrian", "traffic_cone"),
    *("trailer", "truck", "driveable_surface", "other_flat", "sidewalk", "terrain", "manmade", "vegetation"),
)
# Class of each category of the table; None is ignored.
CLASS_OF_CATEGORY = {
    **dict.fromkeys(("noise", "animal", "static.other", "vehicle.ego", "static_object.bicycle_rack")),
    **dict.fromkeys(("movable_object.pushable_pullable", "movable_object.debris")),
    **dict.fromkeys(("vehicle.emergency.ambulance", "vehicle.emergency.police")),
    **{f"human.pedestrian.{kind}": None for kind in ("wheelchair", "stroller", "personal_mobility")},
    **{
        f"human.pedestrian.{kind}": "pedestrian" for kind in ("adult", "child", "police_officer", "construction_worker")
    },
    **{f"vehicle.{name}": name for name in ("car", "motorcycle", "bicycle", "truck", "trailer")},
    **dict.fromkeys(("vehicle.bus.bendy", "vehicle.bus.rigid"), "bus"),
    "vehicle.construction": "construction_vehicle",
    "movable_object.barrier": "barrier",
    "movable_object.trafficcone": "traffic_cone",
    **{f"flat.{name}": name for name in ("driveable_surface", "sidewalk", "terrain")},
    "flat.other": "other_flat",
    **{f"static.{name}": name for name in ("manmade", "vegetation")},
}

# The numbers of the challenge, which files of predictions hold.
CHALLENGE_MAP = LabelMap(
    "lidarseg challenge",
    CLASSES,
    {0: IGNORED, **{i + 1: i for i in range(len(CLASSES))}},
    tuple(range(1, len(CLASSES) + 1)),
)


@DATASETS.register_module()
class NuScenesLidarSeg(NuScenesDataset):
    """Key sweeps of one split with the class of each point; neither older sweeps nor images nor boxes.

    Args:
        root: folder of the data set; tools/prepare_data.py nuscenes must have been run on it, and the lidarseg archive
            be unpacked there. A version without lidarseg.json, such as v1.0-test, gives samples without labels.
        version, split, transforms, test_mode: see NuScenesDataset.
    Raises:
        FileNotFoundError: there is no index of the split, or a table is missing.
        ValueError: as NuScenesDataset, or the category table has no ``index`` or an unknown category.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        version: str,
        split: str,
        transforms: Sequence[Callable[[dict], dict | None]] = (),
        test_mode: bool = False,
    ) -> None:
        super().__init__(
            root=root,
            version=version,
            split=split,
            transforms=transforms,
            num_sweeps=0,
            pad_missing_sweeps=False,
            modalities=("lidar",),
            test_mode=test_mode,
        )
        self.classes = CLASSES
        folder = table_folder(root, version)
        self.label_map, self._label_files = None, {}
        if (folder / "lidarseg.json").is_file():
            self.label_map = read_label_map(folder / "category.json")
            rows = _read_rows(folder / "lidarseg.json", ("sample_data_token", "filename"))
            self._label_files = {row["sample_data_token"]: row["filename"] for row in rows}

    def read_sample(self, index: int) -> dict:
        """Return a sample without transforms; see NuScenesDataset."""
        sample = super().read_sample(index)
        for key in ("boxes", "labels", "num_lidar_pts"):
            del sample[key]
        sample["num_recorded_points"] = len(sample["points"])
        sample["lidar_token"] = self._lidar_token(index)
        path = self.label_path(index)
        if path is not None:
            recorded = read_lidarseg(path, num_points=len(sample["points"]))
            sample["point_labels"] = self.label_map.to_train(recorded, where=f"label file {path}")
        return sample

    def label_path(self, index: int) -> Path | None:
        """Return the label file of a sample, None in a version without labels."""
        if self.label_map is None:
            return None
        token = self._lidar_token(index)
        if token not in self._label_files:
            path = table_folder(self.root, self.version) / "lidarseg.json"
            raise ValueError(f"nuScenes: table {path} must have a row of key sweep {token}")
        return self.root / self._label_files[token]

    def read_point_labels(self, index: int) -> np.ndarray | None:
        """Return the train ids of a sample, (N,) int64, without reading its points; None where it has none."""
        path = self.label_path(index)
        return None if path is None else self.label_map.to_train(read_lidarseg(path), where=f"label file {path}")

    def _lidar_token(self, index: int) -> str:
        """Return the token of the key sweep, by which label files and predictions are named."""
        lidar = self.read_record(index)["lidar"]
        if "token" not in lidar:
            raise ValueError(
                f"NuScenesLidarSeg: the index of {self.split} must name the key sweeps, but was made before that; run "
                f"python tools/prepare_data.py nuscenes --root {self.root} --version {self.version} --overwrite"
            )
        return lidar["token"]


def read_label_map(path: str | Path) -> LabelMap:
    """Return the map from the category table of a version with lidarseg.

    Raises:
        FileNotFoundError, ValueError: the table is missing, malformed, or has an unknown category.
    """
    train_ids = {}
    for row in _read_rows(path, ("name", "index")):
        if row["name"] not in CLASS_OF_CATEGORY:
            raise ValueError(f"nuScenes: table {path} must have known categories, got {row['name']!r}")
        name = CLASS_OF_CATEGORY[row["name"]]
        train_ids[int(row["index"])] = IGNORED if name is None else CLASSES.index(name)
    numbers = {train_id: number for number, train_id in train_ids.items() if train_id != IGNORED}
    return LabelMap("lidarseg", CLASSES, train_ids, tuple(numbers.get(i, 0) for i in range(len(CLASSES))))


def read_lidarseg(path: str | Path, *, num_points: int | None = None) -> np.ndarray:
    """Read a label file: recorded categories, (N,) int64.

    Args:
        path: of a file with one byte a point.
        num_points: how many the sweep has; None accepts any.
    Raises:
        FileNotFoundError: no such file.
        ValueError: not one label for each point.
    """
    labels = np.frombuffer(read_file(path, "label file"), np.uint8).astype(np.int64)
    if num_points is not None and len(labels) != num_points:
        raise ValueError(f"label file {path} must have {num_points} labels, one a point, got {len(labels)}")
    return labels


def _read_rows(path: str | Path, keys: tuple[str, ...]) -> list[dict]:
    """Return the rows of a table, each with ``keys``."""
    try:
        rows = json.loads(read_file(path, "nuScenes: table"))
    except json.JSONDecodeError as error:
        raise ValueError(f"nuScenes: table {path} must be JSON, but cannot be read: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"nuScenes: table {path} must be a JSON list of objects")
    for row in rows:
        missing = [key for key in keys if key not in row]
        if missing:
            raise ValueError(
                f"nuScenes: rows of table {path} must have '{missing[0]}', got {sorted(row)}; "
                "the lidarseg archive brings its own category.json"
            )
    return rows
