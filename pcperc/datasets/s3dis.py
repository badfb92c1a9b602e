# SPDX-License-Identifier: Apache-2.0
"""S3DIS, real or simulated: coloured rooms of six areas with one of 13 classes for each point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pcperc.datasets.cloud_files import check_colors, check_finite, check_room_size, read_npy, read_table
from pcperc.datasets.room_labels import S3DIS_CLASSES, S3DIS_CLUTTER
from pcperc.datasets.rooms import ROOM_COLUMNS, Room, RoomBlocks
from pcperc.files import written_whole
from pcperc.registry import DATASETS

AREAS = (1, 2, 3, 4, 5, 6)


@DATASETS.register_module()
class S3DIS(RoomBlocks):
    """Rooms or their blocks (`RoomBlocks`), as docs/conventions.md lays samples out; never augments.

    A room is ``<root>/Area_5_office_1.npy``, rows ``x y z red green blue class`` with colours of 0 to 255, or as
    published ``<root>/Area_5/office_1/Annotations/chair_1.txt`` ..., rows ``x y z red green blue``. Text is slow to
    read: `prepare_s3dis` makes the first of the second.

    Args:
        root: folder of the data set.
        split: "train", all areas but one, or "val", that one. "sim_train" and "sim_val" are the same of simulated
            rooms.
        test_area: 1 to 6, the area that is held out.
        block: edge in metres of the blocks that samples are; None makes whole rooms the samples.
        transforms: callables applied in order to each sample; one that returns None drops the sample.
        test_mode: a sample that a transform drops is an error instead of being replaced by another one.
    Raises:
        ValueError: an unknown split or area, a split without rooms, or a malformed room.
    """

    classes = S3DIS_CLASSES

    def __init__(
        self,
        *,
        root: str | Path,
        split: str,
        test_area: int = 5,
        block: float | None = 1.5,
        transforms: Sequence[Callable[[dict], dict | None]] = (),
        test_mode: bool = False,
    ) -> None:
        super().__init__(split=split, transforms=transforms, test_mode=test_mode)
        self.root = Path(root)
        areas = split_areas("S3DIS", split, test_area)
        self.rooms = [name for name in list_rooms(self.root) if int(name.split("/")[0][5:]) in areas]
        if not self.rooms:
            raise ValueError(f"S3DIS: {root} must have rooms of areas {areas}, as npy or text, but has none")
        self.lay_blocks(block)

    def read_room(self, name: str) -> Room:
        path = npy_path(self.root, name)
        table = read_npy(path, "room") if path.is_file() else read_annotations(self.root / name)
        if table.ndim != 2 or table.shape[1] != 7 or table.dtype.kind not in "fiu":
            raise ValueError(f"room {path} must be (N, 7) numbers, got {table.shape} {table.dtype}")
        check_finite(path, "room", table)
        check_colors(path, "room", table[:, 3:6])
        check_room_size(path, "room", table[:, :3])
        wrong = table[
            (table[:, 6] != np.floor(table[:, 6])) | (table[:, 6] < 0) | (table[:, 6] >= len(S3DIS_CLASSES)), 6
        ]
        if len(wrong):
            raise ValueError(f"room {path}: classes must be 0 to {len(S3DIS_CLASSES) - 1}, got {wrong[0]}")
        return Room(table[:, :3], table[:, 3:6] / 255, table[:, 6].astype(np.int64))


def split_areas(op: str, split: str, test_area: int) -> tuple[int, ...]:
    """Return the areas of a split.

    Raises:
        ValueError: an unknown split or area.
    """
    if test_area not in AREAS:
        raise ValueError(f"{op}: test_area must be 1 to 6, got {test_area!r}")
    name = split.removeprefix("sim_")
    if name not in ("train", "val"):
        raise ValueError(f"{op}: split must be train, val, sim_train or sim_val, got {split!r}")
    return (test_area,) if name == "val" else tuple(area for area in AREAS if area != test_area)


def npy_path(root: Path, name: str) -> Path:
    """Return where the room ``Area_5/office_1`` lies as an array."""
    return root / f"{name.replace('/', '_')}.npy"


def list_rooms(root: Path) -> list[str]:
    """Return "Area_<n>/<room>" of all rooms below ``root``, as arrays or as text."""
    arrays = {f"{path.stem[:6]}/{path.stem[7:]}" for path in root.glob("Area_[1-6]_*.npy")}
    texts = {f"{path.parent.parent.name}/{path.parent.name}" for path in root.glob("Area_[1-6]/*/Annotations")}
    return sorted(arrays | texts)


def read_annotations(folder: Path) -> np.ndarray:
    """Read a room as published: (N, 7) float64 ``[x, y, z, red, green, blue, class]``, objects in the order of their
    names.

    Raises:
        ValueError: no annotations, an object of an unknown class, or a malformed row; the message names the file. The
            published files have a few rows with a stray character, which have to be mended by hand.
    """
    parts = []
    for path in sorted((folder / "Annotations").glob("*.txt")):
        name = path.stem.rpartition("_")[0]
        name = "clutter" if name in S3DIS_CLUTTER else name
        if name not in S3DIS_CLASSES:
            raise ValueError(f"annotation {path} must be named <class>_<n>.txt of {', '.join(S3DIS_CLASSES)}")
        table = read_table(path, "annotation", columns=6, names=ROOM_COLUMNS[:6])
        check_colors(path, "annotation", table[:, 3:], whole=False)
        parts.append(np.concatenate([table, np.full((len(table), 1), float(S3DIS_CLASSES.index(name)))], 1))
    if not parts:
        raise ValueError(f"room {folder} must have Annotations/*.txt, but has none")
    return np.concatenate(parts)


def prepare_s3dis(root: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Write every room that lies below ``root`` as text as an array beside it, float32; returns the files written.

    An array that is newer than its text is kept, unless ``overwrite``.

    Raises:
        ValueError: no room, or a malformed one; rooms before it are written, and the same call goes on from there.
    """
    root, written = Path(root), []
    names = list_rooms(root)
    if not names:
        raise ValueError(f"prepare_s3dis: {root} must have Area_1 to Area_6 with rooms, but has none")
    for name in names:
        path = npy_path(root, name)
        texts = list((root / name / "Annotations").glob("*.txt"))
        if path.is_file() and not (texts and (overwrite or _is_older(path, texts))):
            continue
        table = read_annotations(root / name).astype(np.float32)
        with written_whole(path) as partial, open(partial, "wb") as file:
            np.save(file, table, allow_pickle=False)
        written.append(path)
    return written


def _is_older(path: Path, sources: Sequence[Path]) -> bool:
    """Whether a file was written before one of its sources was changed."""
    return path.stat().st_mtime_ns < max(source.stat().st_mtime_ns for source in sources)
