# SPDX-License-Identifier: Apache-2.0
"""Files of KITTI's object benchmark: labels and results, calibration, lists of frames, sizes of images."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcperc.datasets.transformed import read_file
from pcperc.geometry.kitti import KITTICalibration, boxes_from_kitti

CLASSES = ("Car", "Pedestrian", "Cyclist")  # what is scored
DONT_CARE = "DontCare"
TYPES = (*CLASSES, "Van", "Truck", "Person_sitting", "Tram", "Misc", DONT_CARE)
# What the lists of 2D detections published with Frustum PointNets call the classes.
DETECTION_TYPES = {1: "Pedestrian", 2: "Car", 3: "Cyclist"}


@dataclass(frozen=True)
class KITTIObjects:
    """The rows of a label or result file, as recorded.

    Attributes:
        types: (K,) str. truncation, occlusion: (K,) float64, int64; -1 in results and for DontCare.
        alpha: (K,) observation angle. boxes_2d: (K, 4) left, top, right, bottom in pixels.
        sizes: (K, 3) height, width, length. locations: (K, 3) middle of the lower face, rectified camera frame.
        rotations_y: (K,). scores: (K,), NaN where the file has none.
    """

    types: np.ndarray
    truncation: np.ndarray
    occlusion: np.ndarray
    alpha: np.ndarray
    boxes_2d: np.ndarray
    sizes: np.ndarray
    locations: np.ndarray
    rotations_y: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.types)

    def take(self, rows: np.ndarray) -> KITTIObjects:
        """Keep the rows that ``rows`` names: (K,) bool, or integer indices."""
        return KITTIObjects(**{name: values[rows] for name, values in self.__dict__.items()})

    def boxes(self) -> np.ndarray:
        """(K, 7) float64 boxes of the upright camera frame (`pcperc.geometry.kitti`); those of DontCare mean
        nothing."""
        return boxes_from_kitti(self.sizes, self.locations, self.rotations_y)

    @classmethod
    def from_table(cls, types: Sequence[str], table: np.ndarray, scores: np.ndarray | None = None) -> KITTIObjects:
        """Make it of the types and the 14 numbers that follow them in a row."""
        table = np.asarray(table, np.float64).reshape(len(types), 14)
        scores = np.full(len(types), np.nan) if scores is None else np.asarray(scores, np.float64)
        return cls(
            np.array(types, dtype=object).astype(str).reshape(-1),
            *(table[:, 0], table[:, 1].astype(np.int64), table[:, 2], table[:, 3:7], table[:, 7:10], table[:, 10:13]),
            *(table[:, 13], scores),
        )


def read_objects(path: str | Path) -> KITTIObjects:
    """Read a label file (15 columns) or a result file (16, with a score); an empty file is K = 0.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another number of columns, other than numbers, an unknown type, or a labelled object without area on
            the image or with a size of zero or less; the message names the line. Results may lack either.
    """
    types, rows, scores = [], [], []
    for number, line in enumerate(read_file(path, "labels").decode("utf-8", "replace").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        where = f"labels {path}, line {number}"
        if len(words) not in (15, 16) or words[0] not in TYPES:
            known = ", ".join(TYPES)
            raise ValueError(f"{where}: must be a type of {known} and 14 or 15 numbers, got {line!r}")
        try:
            numbers = [float(word) for word in words[1:]]
        except ValueError as error:
            raise ValueError(f"{where}: must have numbers after the type, got {line!r}") from error
        if not np.isfinite(numbers).all():
            raise ValueError(f"{where}: must have finite numbers, got {line!r}")
        left, top, right, bottom = numbers[3:7]
        labelled = len(words) == 15 and words[0] != DONT_CARE
        if labelled and not (left < right and top < bottom and min(numbers[7:10]) > 0):
            raise ValueError(f"{where}: the 2D box must have area and sizes must be > 0, got {line!r}")
        types.append(words[0])
        rows.append(numbers[:14])
        scores.append(numbers[14] if len(words) == 16 else np.nan)
    return KITTIObjects.from_table(types, rows, scores)


def read_calibration(path: str | Path) -> KITTICalibration:
    """Read a calibration file: rows ``name: numbers``, of which P2, R0_rect and Tr_velo_to_cam are taken.

    Raises:
        FileNotFoundError: no such file. ValueError: a row is missing, malformed, or no calibration.
    """
    rows = {}
    for line in read_file(path, "calibration").decode("utf-8", "replace").splitlines():
        name, _, numbers = line.partition(":")
        rows[name.strip()] = numbers.split()
    found = {}
    for name, shape in (("P2", (3, 4)), ("R0_rect", (3, 3)), ("Tr_velo_to_cam", (3, 4))):
        try:
            found[name] = np.array(rows[name], np.float64).reshape(shape)
        except (KeyError, ValueError) as error:
            count = shape[0] * shape[1]
            raise ValueError(f"calibration {path} must have a row {name} of {count} numbers") from error
        if not np.isfinite(found[name]).all() or abs(np.linalg.det(found[name][:, :3])) < 1e-6:
            raise ValueError(f"calibration {path}: {name} must be finite and invertible, got {found[name].tolist()}")
    rect, lidar2camera0 = np.eye(4), np.eye(4)
    rect[:3, :3], lidar2camera0[:3] = found["R0_rect"], found["Tr_velo_to_cam"]
    return KITTICalibration(found["P2"], rect @ lidar2camera0)


def png_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) of a PNG from its header.

    Raises:
        FileNotFoundError: no such file. ValueError: it is no PNG.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(24)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"image {path} is missing, though the data set lists it") from error
    if len(head) < 24 or head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
        raise ValueError(f"image {path} must be a PNG, but has another header")
    width, height = struct.unpack(">II", head[16:24])
    return height, width


def list_frames(root: Path, split: str) -> tuple[Path, list[str]]:
    """Return the folder of a split, training or testing, and the names of its frames, such as "000001".

    ``training`` and ``testing`` are all frames of that folder; another split is listed in ``ImageSets/<split>.txt``
    and lies in testing/ where it is called test, else in training/.

    Raises:
        FileNotFoundError: no folder or no list. ValueError: no frames.
    """
    folder = root / ("testing" if split in ("test", "testing") else "training")
    if not (folder / "velodyne").is_dir():
        raise FileNotFoundError(f"KITTIObject: {folder / 'velodyne'} of split {split} is missing")
    if split in ("training", "testing"):
        frames = sorted(path.stem for path in (folder / "velodyne").glob("*.bin"))
    else:
        path = root / "ImageSets" / f"{split}.txt"
        if not path.is_file():
            known = ", ".join(sorted([*(p.stem for p in path.parent.glob("*.txt")), "training", "testing"]))
            raise FileNotFoundError(f"KITTIObject: {path} of split {split!r} is missing (known: {known})")
        frames = read_file(path, "list").decode("utf-8", "replace").split()
    if not frames:
        raise ValueError(f"KITTIObject: split {split} of {root} must have frames, but has none")
    return folder, frames


def read_detections_2d(path: str | Path) -> dict[str, KITTIObjects]:
    """Read 2D detections by frame, from a folder of result files or from one list.

    Args:
        path: a folder with ``<frame>.txt`` in the form of `read_objects`; or a text file of rows ``image type score
            left top right bottom``, where ``image`` is a path whose stem is the frame and ``type`` 1 Pedestrian, 2
            Car, 3 Cyclist, as published with Frustum PointNets.
    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: a malformed row, an unknown type, or a box without area; the message names the line.
    """
    path = Path(path)
    if path.is_dir():
        found = {file.stem: read_objects(file) for file in sorted(path.glob("*.txt"))}
        for frame, objects in found.items():
            left, top, right, bottom = objects.boxes_2d.T
            flat = np.flatnonzero(~((left < right) & (top < bottom)))
            if len(flat):
                box = objects.boxes_2d[flat[0]].tolist()
                raise ValueError(f"2D detections {path / frame}.txt: boxes must have area, got {box} in row {flat[0]}")
        return found
    if not path.is_file():
        raise FileNotFoundError(f"2D detections {path}: no such file or folder")
    rows: dict[str, list] = {}
    for number, line in enumerate(read_file(path, "2D detections").decode("utf-8", "replace").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        where = f"2D detections {path}, line {number}"
        try:
            type_, (score, *box) = DETECTION_TYPES[int(words[1])], [float(word) for word in words[2:]]
            left, top, right, bottom = box
        except (IndexError, KeyError, ValueError) as error:
            raise ValueError(f"{where}: must be 'image type score left top right bottom', got {line!r}") from error
        if not (np.isfinite([score, *box]).all() and left < right and top < bottom):
            raise ValueError(f"{where}: the box must be finite and have area, got {line!r}")
        rows.setdefault(Path(words[0]).stem, []).append((type_, score, box))
    unknown = [-1.0, -1.0, -10.0]  # truncation, occlusion, alpha; then, after the box, everything in space
    return {
        frame: KITTIObjects.from_table(
            [type_ for type_, _, _ in found],
            [[*unknown, *box, -1, -1, -1, -1000, -1000, -1000, -10] for _, _, box in found],
            [score for _, score, _ in found],
        )
        for frame, found in rows.items()
    }


def format_objects(objects: KITTIObjects, *, digits: int = 2) -> str:
    """Return the text of a label file, or of a result file where the objects have scores.

    Args:
        objects: what to write. digits: after the point; label files have 2.
    """
    lines = []
    for k in range(len(objects)):
        numbers = [objects.alpha[k], *objects.boxes_2d[k], *objects.sizes[k], *objects.locations[k]]
        head = f"{objects.types[k]} {objects.truncation[k]:.2f} {objects.occlusion[k]:d}"
        line = " ".join([head, *(f"{value:.{digits}f}" for value in [*numbers, objects.rotations_y[k]])])
        lines.append(line if np.isnan(objects.scores[k]) else f"{line} {objects.scores[k]:.4f}")
    return "".join(f"{line}\n" for line in lines)
