# SPDX-License-Identifier: Apache-2.0
"""SemanticKITTI, real or simulated: scans of one turn of the LiDAR with a class and an instance for each point."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pcperc.datasets.semantickitti_labels import label_map as label_map_of
from pcperc.datasets.semantickitti_poses import read_poses, read_times
from pcperc.datasets.transformed import TransformedDataset, read_file
from pcperc.registry import DATASETS

SPLITS = {
    "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
    "val": ("08",),
    "trainval": ("00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10"),
    "test": ("11", "12", "13", "14", "15", "16", "17", "18", "19", "20", "21"),
}
# No LiDAR sees as far, and voxels of 0.05 m, counted from one end of the scan, stay on the lattice of 18 bits.
MAX_COORDINATE = 3_000.0


@DATASETS.register_module()
class SemanticKITTI(TransformedDataset):
    """Scans of one split in the published layout, as docs/conventions.md lays samples out; never augments.

    ``<root>/sequences/<NN>/`` has velodyne/*.bin and, where the sequence is labelled, labels/*.label; poses.txt,
    calib.txt and times.txt are read where they are. A scan without any point is a sample like every other.

    Args:
        root: folder with sequences/.
        split: train, val, trainval or test, by the official lists of sequences, or one that ``<root>/splits.json``
            lists as ``{"name": ["00", ...]}``.
        label_map: "official" or "spvnas" (pcperc/datasets/semantickitti_labels.py).
        transforms: callables applied in order to each sample; one that returns None drops the sample.
        test_mode: a sample that a transform drops is an error instead of being replaced by another one.
    Attributes:
        tokens: "<sequence>/<frame>" of each sample.
    Raises:
        FileNotFoundError: a sequence of the split is missing.
        ValueError: an unknown split or label map, or a split without scans.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        split: str,
        label_map: str = "official",
        transforms: Sequence[Callable[[dict], dict | None]] = (),
        test_mode: bool = False,
    ) -> None:
        super().__init__(split=split, transforms=transforms, test_mode=test_mode)
        self.root, self.label_map = Path(root), label_map_of(label_map)
        self.classes = self.label_map.classes
        self._scans: list[Path] = []
        self._poses: dict[str, np.ndarray | None] = {}
        self._times: dict[str, np.ndarray | None] = {}
        for sequence in split_sequences(root, split):
            folder = self.root / "sequences" / sequence
            if not (folder / "velodyne").is_dir():
                raise FileNotFoundError(f"SemanticKITTI: {folder / 'velodyne'} of split {split} is missing")
            scans = sorted((folder / "velodyne").glob("*.bin"))
            self._scans += scans
            self._poses[sequence] = read_poses(folder)
            self._times[sequence] = read_times(folder)
        if not self._scans:
            raise ValueError(f"SemanticKITTI: split {split} of {root} must have scans, but has none")

        self.tokens = [f"{path.parent.parent.name}/{path.stem}" for path in self._scans]

    def __len__(self) -> int:
        return len(self._scans)

    @property
    def metainfo(self) -> dict:
        """What an evaluator needs to know of this data set."""
        return {
            "classes": self.classes,
            "root": str(self.root),
            "split": self.split,
            "label_map": self.label_map.name,
        }

    def read_sample(self, index: int) -> dict:
        """Return a sample without transforms.

        Raises:
            IndexError: no such sample.
            FileNotFoundError, ValueError: a file is missing, truncated or holds something else; the message names it.
        """
        index = self.check_index(index)
        path = self._scans[index]
        sequence, frame = path.parent.parent.name, path.stem
        scan = read_scan(path)
        sample = {
            "sample_token": self.tokens[index],
            "scene_name": sequence,
            "sample_index": index,
            "num_recorded_points": len(scan),
            "points": np.concatenate([scan, np.zeros((len(scan), 1), np.float32)], axis=1),
            "lidar_aug": np.eye(4),
            **self._motion(sequence, frame),
        }
        label_path = self.label_path(index)
        if label_path is not None:
            recorded, sample["point_instances"] = read_labels(label_path, num_points=len(scan))
            sample["point_labels"] = self.label_map.to_train(recorded, where=f"label file {label_path}")
        return sample

    def label_path(self, index: int) -> Path | None:
        """Return the label file of a sample, None where its sequence has no folder of labels."""
        path = self._scans[self.check_index(index)]
        folder = path.parent.parent / "labels"
        return folder / f"{path.stem}.label" if folder.is_dir() else None

    def read_point_labels(self, index: int) -> np.ndarray | None:
        """Return the train ids of a sample, (N,) int64, without reading its points; None where it has none."""
        path = self.label_path(index)
        return None if path is None else self.label_map.to_train(read_labels(path)[0], where=f"label file {path}")

    def _motion(self, sequence: str, frame: str) -> dict:
        """Return time and pose of a scan where they are recorded; the vehicle's frame is the LiDAR's."""
        found = {}
        for key, rows in (("timestamp", self._times[sequence]), ("ego2global", self._poses[sequence])):
            if rows is None:
                continue
            if not frame.isdigit() or int(frame) >= len(rows):
                folder = self.root / "sequences" / sequence
                raise ValueError(f"{folder}: poses.txt and times.txt must have a row for scan {frame}, got {len(rows)}")
            found[key] = float(rows[int(frame)]) if key == "timestamp" else rows[int(frame)]
        if "ego2global" in found:
            found["lidar2ego"] = np.eye(4)
        return found


def split_sequences(root: str | Path, split: str) -> tuple[str, ...]:
    """Return the sequences of a split; splits.json in ``root`` may list more splits than the official ones.

    Raises:
        ValueError: an unknown split, or a malformed splits.json.
    """
    path, known = Path(root) / "splits.json", dict(SPLITS)
    if path.is_file():
        try:
            custom = json.loads(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"SemanticKITTI: {path} must be JSON, but cannot be read: {error}") from error
        if not isinstance(custom, dict) or not all(isinstance(names, list) for names in custom.values()):
            raise ValueError(f"SemanticKITTI: {path} must be an object of lists of sequence names")
        for name, names in custom.items():
            if name in SPLITS:
                raise ValueError(f"SemanticKITTI: {path} must not name a split {name!r}, an official one's name")
            known[name] = tuple(map(str, names))
    if split not in known:
        raise ValueError(f"SemanticKITTI: split must be one of {', '.join(known)} (more: {path}), got {split!r}")
    return known[split]


def read_scan(path: str | Path) -> np.ndarray:
    """Read a scan: (N, 4) float32 ``[x, y, z, remission]``, remission in [0, 1]; an empty file is N = 0.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a size that is not a multiple of 16 bytes, or a coordinate that is not finite or beyond 3 km.
    """
    content = read_file(path, "scan")
    if len(content) % 16:
        raise ValueError(f"scan {path} must hold float32 rows of 4 (16 bytes each), got {len(content)} bytes")
    points = np.frombuffer(content, "<f4").reshape(-1, 4).astype(np.float32)
    bad = ~np.isfinite(points).all(axis=1) | ~(np.abs(points[:, :3]) <= MAX_COORDINATE).all(axis=1)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"scan {path} must have finite values and coordinates within {MAX_COORDINATE:g} m, "
            f"got {points[first].tolist()} at point {first} ({bad.sum()} such points)"
        )
    return points


def read_labels(path: str | Path, *, num_points: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read a label file: recorded classes (lower 16 bits) and instances (upper 16 bits), each (N,) int64.

    Args:
        path: of the .label file.
        num_points: how many the scan has; None accepts any.
    Raises:
        FileNotFoundError: no such file.
        ValueError: a size that is not a multiple of 4 bytes, or not one label for each point.
    """
    content = read_file(path, "label file")
    if len(content) % 4:
        raise ValueError(f"label file {path} must hold uint32 (4 bytes each), got {len(content)} bytes")
    labels = np.frombuffer(content, "<u4").astype(np.int64)
    if num_points is not None and len(labels) != num_points:
        raise ValueError(f"label file {path} must have {num_points} labels, one a point, got {len(labels)}")
    return labels & 0xFFFF, labels >> 16
