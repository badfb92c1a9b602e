# SPDX-License-Identifier: Apache-2.0
"""S3DIS as blocks in h5 files, the way in which PointCNN and PVCNN prepared it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pcperc.datasets.cloud_files import check_finite
from pcperc.datasets.room_labels import S3DIS_BLOCK_CLASSES, S3DIS_CLASSES
from pcperc.datasets.s3dis import split_areas
from pcperc.datasets.transformed import TransformedDataset
from pcperc.registry import DATASETS

_TRAIN_IDS = np.array([S3DIS_CLASSES.index(name) for name in S3DIS_BLOCK_CLASSES])  # of the numbers in the files
MOST_ROWS = 2**28 - 1  # of a room; the largest of S3DIS has some 9 million, and scores keep a number a class of each


@DATASETS.register_module()
class S3DISBlocks(TransformedDataset):
    """Blocks of rooms, as docs/conventions.md lays samples out; never augments.

    ``<root>/Area_5/office_1/zero_0.h5``, ``half_0.h5``, ... hold ``data`` (B, P, 9), ``label_seg`` (B, P) and
    ``data_num`` (B,), the number of rows of each block that are points; and perhaps ``indices_split_to_full`` (B, P),
    the rows of the room. The nine columns stay as recorded: x and y from half a block above the block's lowest, z,
    colours in [0, 1], and the place in the room. ``label_seg`` counts in the order of `S3DIS_BLOCK_CLASSES`; samples
    have the numbers of `S3DIS_CLASSES`. Needs h5py.

    Args:
        root, split, test_area, transforms, test_mode: as of `S3DIS`.
    Attributes:
        tokens: "<room>:<file>_<block>" of each sample.
    Raises:
        ImportError: h5py is not installed. ValueError: an unknown split or area, no blocks, or a malformed file.
    """

    classes = S3DIS_CLASSES

    def __init__(
        self,
        *,
        root: str | Path,
        split: str,
        test_area: int = 5,
        transforms: Sequence[Callable[[dict], dict | None]] = (),
        test_mode: bool = False,
    ) -> None:
        super().__init__(split=split, transforms=transforms, test_mode=test_mode)
        self.root = Path(root)
        areas = split_areas("S3DISBlocks", split, test_area)
        files = sorted(path for area in areas for path in self.root.glob(f"Area_{area}/*/*.h5"))
        self._blocks = [(path, block) for path in files for block in range(len(read_block_sizes(path)))]
        if not self._blocks:
            raise ValueError(f"S3DISBlocks: {root} must have h5 files of areas {areas}, but has none")
        self.tokens = [f"{p.parent.parent.name}/{p.parent.name}:{p.stem}_{block}" for p, block in self._blocks]

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def metainfo(self) -> dict:
        """What an evaluator needs to know of this data set."""
        return {"classes": self.classes, "root": str(self.root), "split": self.split}

    def read_sample(self, index: int) -> dict:
        """Return a sample without transforms.

        Raises:
            IndexError: no such sample. ValueError: a malformed file; the message names it.
        """
        index = self.check_index(index)
        path, block = self._blocks[index]
        count = int(read_block_sizes(path)[block])
        with _open(path) as file:
            points = np.asarray(file["data"][block, :count], np.float32)
            labels = np.asarray(file["label_seg"][block, :count], np.int64)
            rows = file.get("indices_split_to_full")
            rows = None if rows is None else np.asarray(rows[block, :count], np.int64)
        check_finite(path, "blocks", points)
        if ((labels < 0) | (labels >= len(S3DIS_CLASSES))).any():
            wrong = labels[(labels < 0) | (labels >= len(S3DIS_CLASSES))][0]
            raise ValueError(f"blocks {path}: classes must be 0 to {len(S3DIS_CLASSES) - 1}, got {wrong}")
        if rows is not None and ((rows < 0) | (rows > MOST_ROWS)).any():
            wrong = rows[(rows < 0) | (rows > MOST_ROWS)][0]
            raise ValueError(f"blocks {path}: indices_split_to_full must be 0 to {MOST_ROWS}, got {wrong}")
        room = self.tokens[index].partition(":")[0]
        sample = {
            "sample_token": self.tokens[index],
            "scene_name": room,
            "sample_index": index,
            "num_recorded_points": count,
            "points": points,
            "point_labels": _TRAIN_IDS[labels],
            "room": room,
        }
        return sample if rows is None else {**sample, "room_index": rows}


def read_block_sizes(path: str | Path) -> np.ndarray:
    """Return the numbers of points of the blocks of an h5 file, (B,).

    Raises:
        ImportError: h5py is not installed.
        ValueError: it is no h5 file, an array is missing or of another shape, or a number is larger than its block.
    """
    with _open(path) as file:
        missing = [name for name in ("data", "label_seg", "data_num") if name not in file]
        if missing:
            raise ValueError(f"blocks {path} must have an array {missing[0]}, got {sorted(file)}")
        sizes, room_for = np.asarray(file["data_num"]).reshape(-1), file["data"].shape
        shapes = {name: file[name].shape for name in ("label_seg", "indices_split_to_full") if name in file}
    if len(room_for) != 3 or room_for[2] != 9 or set(shapes.values()) != {room_for[:2]}:
        raise ValueError(
            f"blocks {path}: data must be (B, P, 9), and label_seg and indices_split_to_full (B, P), "
            f"got {room_for} and {', '.join(f'{name} {shape}' for name, shape in shapes.items())}"
        )
    if len(sizes) != room_for[0] or (len(sizes) and (sizes.min() < 0 or sizes.max() > room_for[1])):
        raise ValueError(f"blocks {path}: data_num must be (B,) of 0 to P for data (B, P, 9) {room_for}")
    return sizes


def _open(path: str | Path):
    """Open an h5 file for reading."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError("S3DISBlocks: h5py is not installed; pip install 'pcperc[s3dis]'") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"blocks {path} cannot be read as h5: {error}") from error
