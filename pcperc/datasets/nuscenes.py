# SPDX-License-Identifier: Apache-2.0
"""The nuScenes data set, real or simulated: LiDAR with older sweeps, six cameras, calibration and boxes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pcperc.datasets.image_file import read_image
from pcperc.datasets.nuscenes_index import check_index_is_current, index_path
from pcperc.datasets.nuscenes_map import MAP_CLASSES, read_vector_map
from pcperc.datasets.nuscenes_record import CLASSES
from pcperc.datasets.nuscenes_tables import CAMERAS
from pcperc.datasets.transformed import TransformedDataset, read_file
from pcperc.geometry import transform_points
from pcperc.registry import DATASETS

MODALITIES = ("lidar", "camera")
# What a line of the index must have (data/README.md).
RECORD_KEYS = (
    *(
        "sample_token",
        "scene_name",
        "location",
        "timestamp_us",
        "lidar",
        "lidar2ego",
        "ego2global",
        "sweeps",
        "cameras",
    ),
    *("boxes", "names", "num_lidar_pts", "valid"),
)


@DATASETS.register_module()
class NuScenesDataset(TransformedDataset):
    """Samples of one split, as docs/conventions.md lays them out; reads files, never augments.

    Points are the key sweep, then up to ``num_sweeps`` older ones, newest first, each moved by the recorded ego motion
    into the key sweep's frame. Points of older sweeps that lie on the recording vehicle (|x| < 1 m and |y| < 1 m in the
    sweep's own frame) are dropped. Where the scene has fewer older sweeps, those that exist are used; where it has
    none, the key sweep stands in for each with time lag 0, so that the number of points is that of other samples
    (``pad_missing_sweeps=False`` leaves it alone). The published recipe does the same.

    Args:
        root: folder of the data set; tools/prepare_data.py nuscenes must have been run on it.
        version: name of the table folder.
        split: train, val, mini_train, ... or a custom one.
        transforms: callables applied in order to each sample; one that returns None drops the sample.
        num_sweeps: older sweeps, 0 to as many as the index lists (9).
        pad_missing_sweeps: see above.
        modalities: "lidar", "camera" or both; without "lidar" a sample has no ``points``, without "camera" none of the
            images and their matrices.
        classes: names of detected classes; labels index into it. Boxes of other classes are left out.
        with_map: give each sample the ``vector_map`` of its location, for map segmentation; needs the map expansion.
        test_mode: a sample that a transform drops is an error instead of being replaced by another one.
    Raises:
        FileNotFoundError: there is no index of the split.
        ValueError: an argument names something unknown, or the index is empty, or was made from other tables or for
            fewer sweeps.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        version: str,
        split: str,
        transforms: Sequence[Callable[[dict], dict | None]] = (),
        num_sweeps: int = 9,
        pad_missing_sweeps: bool = True,
        modalities: Sequence[str] = MODALITIES,
        classes: Sequence[str] = CLASSES,
        with_map: bool = False,
        test_mode: bool = False,
    ) -> None:
        for name, given, known in (("modalities", modalities, MODALITIES), ("classes", classes, CLASSES)):
            unknown = [value for value in given if value not in known]
            if unknown or not given:
                raise ValueError(f"NuScenesDataset: {name} must be of {', '.join(known)}, got {list(given)}")
        if num_sweeps < 0:
            raise ValueError(f"NuScenesDataset: num_sweeps must be 0 or more, got {num_sweeps}")
        super().__init__(split=split, transforms=transforms, test_mode=test_mode)
        self.root, self.version = Path(root), version
        self.num_sweeps, self.pad_missing_sweeps = int(num_sweeps), pad_missing_sweeps
        self.modalities, self.classes, self.with_map = tuple(modalities), tuple(classes), with_map
        self._path = index_path(root, version, split)
        if not self._path.is_file():
            raise FileNotFoundError(
                f"NuScenesDataset: index {self._path} is missing; run "
                f"python tools/prepare_data.py nuscenes --root {root} --version {version}"
            )
        check_index_is_current(root, version, split, num_sweeps=self.num_sweeps)
        self._starts = _line_starts(self._path)
        if len(self) == 0:
            raise ValueError(f"NuScenesDataset: index {self._path} must have at least one sample, but is empty")
        self._labels: tuple[np.ndarray, np.ndarray] | None = None
        if with_map:  # a map that is missing ends the run now and not in a worker
            read_vector_map(self.root, self.read_record(0)["location"])

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def metainfo(self) -> dict:
        """What an evaluator needs to know of this data set."""
        meta = {"classes": self.classes, "root": str(self.root), "version": self.version, "split": self.split}
        return {**meta, "map_classes": MAP_CLASSES} if self.with_map else meta

    def read_sample(self, index: int) -> dict:
        """Return a sample without transforms.

        Raises:
            IndexError: no such sample.
            FileNotFoundError, ValueError: a file is missing, truncated or holds something else; the message names it.
        """
        record = self.read_record(index)
        sample = {
            "sample_token": record["sample_token"],
            "scene_name": record["scene_name"],
            "location": record["location"],
            "sample_index": int(index) % len(self),
            "timestamp": record["timestamp_us"] * 1e-6,
            "lidar2ego": np.array(record["lidar2ego"], np.float64),
            "ego2global": np.array(record["ego2global"], np.float64),
            "lidar_aug": np.eye(4),
            **self._boxes(record),
        }
        if "lidar" in self.modalities:
            sample["points"] = self._read_points(record)
        if "camera" in self.modalities:
            sample.update(self._read_cameras(record))
        if self.with_map:
            sample["vector_map"] = read_vector_map(self.root, record["location"])
        return sample

    def read_record(self, index: int) -> dict:
        """Return the line of the index for a sample: relative paths, calibration, all annotated boxes."""
        index = self.check_index(index)
        start, end = self._starts[index], self._starts[index + 1]
        with open(self._path, "rb") as file:
            file.seek(start)
            line = file.read(end - start)
        where = f"NuScenesDataset: line {index + 1} of {self._path}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where} must be JSON: {error}") from error
        missing = [key for key in RECORD_KEYS if key not in record]
        if missing:
            raise ValueError(
                f"{where} must have the key '{missing[0]}'; tools/prepare_data.py --overwrite makes it anew"
            )
        return record

    def sample_labels(self, index: int) -> np.ndarray:
        """Return the labels of the valid boxes of a sample, (K,) int64, without reading points or images."""
        if self._labels is None:
            labels = [self.read_boxes(i)["labels"] for i in range(len(self))]
            ends = np.cumsum([0, *map(len, labels)])
            self._labels = np.concatenate([*labels, np.zeros(0, np.int64)]), ends
        flat, ends = self._labels
        return flat[ends[index] : ends[index + 1]]

    def read_boxes(self, index: int, *, with_hidden: bool = False) -> dict[str, np.ndarray]:
        """Return ``boxes``, ``labels`` and ``num_lidar_pts`` of a sample, without reading points or images.

        Args:
            index: of the sample.
            with_hidden: also the annotated boxes in which no LiDAR or radar point lies; ``valid`` (K,) bool tells them.
        """
        return self._boxes(self.read_record(index), with_hidden=with_hidden)

    def _boxes(self, record: dict, *, with_hidden: bool = False) -> dict[str, np.ndarray]:
        """Return boxes, labels and num_lidar_pts of the valid boxes of ``classes``; with hidden ones also ``valid``."""
        valid, names = record["valid"], record["names"]
        keep = [i for i, name in enumerate(names) if (valid[i] or with_hidden) and name in self.classes]
        boxes = np.array([record["boxes"][i] for i in keep], np.float64)  # None, an unknown velocity, becomes NaN
        return {
            "boxes": boxes.astype(np.float32).reshape(-1, 9),
            "labels": np.array([self.classes.index(record["names"][i]) for i in keep], np.int64),
            "num_lidar_pts": np.array([record["num_lidar_pts"][i] for i in keep], np.int64),
            **({"valid": np.array([valid[i] for i in keep], bool)} if with_hidden else {}),
        }

    def _read_points(self, record: dict) -> np.ndarray:
        """Return the key sweep and the older ones, (N, 5) float32 ``[x, y, z, intensity, time_lag]``."""
        key = read_sweep(self.root / record["lidar"]["path"])
        sweeps = [(key, 0.0)]
        for row in record["sweeps"][: self.num_sweeps]:
            older = _without_close(read_sweep(self.root / row["path"]))
            sweeps.append((transform_points(older, np.array(row["sweep2lidar"])), row["time_lag"]))
        if len(sweeps) == 1 and self.pad_missing_sweeps:
            sweeps += [(_without_close(key), 0.0)] * self.num_sweeps
        points = np.concatenate([sweep for sweep, _ in sweeps])
        points[:, 4] = np.repeat([lag for _, lag in sweeps], [len(sweep) for sweep, _ in sweeps])
        return points

    def _read_cameras(self, record: dict) -> dict:
        """Return the images in the order of ``CAMERAS`` and their matrices."""
        for channel in CAMERAS:
            if channel not in record["cameras"]:
                raise ValueError(f"NuScenesDataset: sample {record['sample_token']} must have {channel}, but has none")
        rows = [record["cameras"][channel] for channel in CAMERAS]
        return {
            "images": [read_image(self.root / row["path"], size=row["size"]) for row in rows],
            "lidar2camera": np.array([row["lidar2camera"] for row in rows], np.float64),
            "camera2image": np.array([row["camera2image"] for row in rows], np.float64),
            "image_aug": np.tile(np.eye(3), (len(rows), 1, 1)),
        }


def read_sweep(path: str | Path) -> np.ndarray:
    """Read a point file of nuScenes: (N, 5) float32 ``[x, y, z, intensity, ring]`` in the sensor's frame.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no point, a size that is not a multiple of 20 bytes, or a value that is not finite.
    """
    content = read_file(path, "point file")
    if not content or len(content) % 20:
        raise ValueError(f"point file {path} must hold float32 rows of 5 (20 bytes each), got {len(content)} bytes")
    points = np.frombuffer(content, "<f4").reshape(-1, 5).astype(np.float32)
    bad = ~np.isfinite(points).all(axis=1)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise ValueError(f"point file {path} must be finite, got NaN or infinity in {bad.sum()} points, first {first}")
    return points


def _without_close(points: np.ndarray) -> np.ndarray:
    """Drop the points on the recording vehicle."""
    return points[(np.abs(points[:, :2]) >= 1.0).any(axis=1)]


def _line_starts(path: Path) -> np.ndarray:
    """Return the byte at which each line begins, and the length of the file."""
    starts = [0]
    with open(path, "rb") as file:
        for line in file:
            starts.append(starts[-1] + len(line))
    return np.array(starts, np.int64)
