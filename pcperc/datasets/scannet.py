# SPDX-License-Identifier: Apache-2.0
"""ScanNet: scans of rooms as coloured meshes, of whose vertices each has one of 20 classes or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pcperc.datasets.cloud_files import check_colors, check_finite, check_room_size, read_npy, read_ply_columns
from pcperc.datasets.room_labels import SCANNET_CLASSES, SCANNET_NUMBERS
from pcperc.datasets.rooms import Room, RoomBlocks
from pcperc.datasets.transformed import read_file
from pcperc.geometry import IGNORED
from pcperc.registry import DATASETS

MOST = 40  # NYU40 numbers are 0 to 40
_TRAIN_IDS = np.full(MOST + 1, IGNORED, np.int64)
_TRAIN_IDS[list(SCANNET_NUMBERS)] = np.arange(len(SCANNET_NUMBERS))


@DATASETS.register_module()
class ScanNet(RoomBlocks):
    """Scans or their blocks (`RoomBlocks`), as docs/conventions.md lays samples out; never augments.

    A scan is ``<root>/scans/<scan>/<scan>_vh_clean_2.ply`` with ``<scan>_vh_clean_2.labels.ply`` beside it (NYU40
    numbers), or as others prepared it ``<root>/<scan>_vert.npy``, (N, 6) ``[x, y, z, red, green, blue]``, with
    ``<scan>_sem_label.npy``; or ``_vert_all`` and ``_sem_label_all``. A scan without labels has samples without
    ``point_labels``.

    Args:
        root: folder of the data set.
        scans: their names, such as scene0000_00, or the path of a text file that lists them.
        block: edge in metres of the blocks that samples are; None makes whole scans the samples.
        transforms: callables applied in order to each sample; one that returns None drops the sample.
        test_mode: a sample that a transform drops is an error instead of being replaced by another one.
    Raises:
        FileNotFoundError: a scan or the list is missing. ValueError: no scan, or a malformed one.
    """

    classes = SCANNET_CLASSES

    def __init__(
        self,
        *,
        root: str | Path,
        scans: Sequence[str] | str | Path,
        block: float | None = 1.5,
        transforms: Sequence[Callable[[dict], dict | None]] = (),
        test_mode: bool = False,
    ) -> None:
        super().__init__(split="scans", transforms=transforms, test_mode=test_mode)
        self.root = Path(root)
        if isinstance(scans, str | Path):
            scans = read_file(scans, "list of scans").decode("utf-8", "replace").split()
        self.rooms = list(scans)
        if not self.rooms:
            raise ValueError("ScanNet: scans must name at least one scan, got none")
        self.lay_blocks(block)

    @property
    def metainfo(self) -> dict:
        """What an evaluator needs to know of this data set."""
        return {**super().metainfo, "numbers": SCANNET_NUMBERS}

    def read_room(self, name: str) -> Room:
        ply = self.root / "scans" / name / f"{name}_vh_clean_2.ply"
        if ply.is_file():
            table = read_ply_columns(ply, "scan", ("x", "y", "z", "red", "green", "blue"))
            path = ply.with_name(f"{name}_vh_clean_2.labels.ply")
            numbers = read_ply_columns(path, "labels", ("label",))[:, 0] if path.is_file() else None
        else:
            ply, path = self._npy(name)
            table = read_npy(ply, "scan")
            numbers = read_npy(path, "labels") if path.is_file() else None
        if table.ndim != 2 or table.shape[1] != 6 or table.dtype.kind not in "fiu":
            raise ValueError(f"scan {ply} must be (N, 6) numbers, got {table.shape} {table.dtype}")
        check_finite(ply, "scan", table)
        check_colors(ply, "scan", table[:, 3:6])
        check_room_size(ply, "scan", table[:, :3])
        labels = None if numbers is None else to_train_ids(path, numbers, len(table))
        return Room(table[:, :3], table[:, 3:6] / 255, labels)

    def _npy(self, name: str) -> tuple[Path, Path]:
        """Return the files of points and labels of a scan that others prepared."""
        for ending in ("", "_all"):
            path = self.root / f"{name}_vert{ending}.npy"
            if path.is_file():
                return path, self.root / f"{name}_sem_label{ending}.npy"
        raise FileNotFoundError(
            f"ScanNet: scan {name} is missing: neither scans/{name}/ nor {name}_vert.npy in {self.root}"
        )


def to_train_ids(path: str | Path, numbers: np.ndarray, count: int) -> np.ndarray:
    """Return (N,) int64 train ids of NYU40 numbers (N,), 255 where the benchmark has no class.

    Raises:
        ValueError: another count, or numbers beyond 0 to 40.
    """
    if numbers.shape != (count,):
        raise ValueError(f"labels {path} must be ({count},), one a point, got {numbers.shape}")
    wrong = numbers[(numbers < 0) | (numbers > MOST)]
    if len(wrong):
        raise ValueError(f"labels {path}: must be NYU40 numbers, 0 to {MOST}, got {wrong[0]}")
    return _TRAIN_IDS[numbers.astype(np.int64)]
