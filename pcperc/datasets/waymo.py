# SPDX-License-Identifier: Apache-2.0
"""The Waymo Open Dataset's perception data in its parquet layout (version 2): range images of five LiDARs, boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pcperc.datasets.recent import Recent
from pcperc.datasets.transformed import TransformedDataset
from pcperc.datasets.waymo_range_image import range_image, range_image_points
from pcperc.geometry import invert_rigid, transform_points
from pcperc.registry import DATASETS
from pcperc.tables import read_table, stack_columns, whole_numbers

CLASSES = ("VEHICLE", "PEDESTRIAN", "CYCLIST")
_TYPES = {1: "VEHICLE", 2: "PEDESTRIAN", 4: "CYCLIST"}  # 3 is SIGN, which has no boxes to be found
TOP, LASERS = 1, (1, 2, 3, 4, 5)  # TOP, FRONT, SIDE_LEFT, SIDE_RIGHT, REAR
FEW_POINTS = 5  # an object with no more is of level 2, where the annotators did not say which it is of
_TIME, _LASER = "key.frame_timestamp_micros", "key.laser_name"
_POSE = "[VehiclePoseComponent].world_from_vehicle.transform"
_EXTRINSIC = "[LiDARCalibrationComponent].extrinsic.transform"
_INCLINATION = tuple(f"[LiDARCalibrationComponent].beam_inclination.{name}" for name in ("min", "max", "values"))
_PIXEL_POSE = "[LiDARPoseComponent].range_image_return1"
_BOX = "[LiDARBoxComponent]"
_BOX_COLUMNS = (
    *(f"{_BOX}.box.center.{axis}" for axis in "xyz"),
    *(f"{_BOX}.box.size.{axis}" for axis in "xyz"),
    f"{_BOX}.box.heading",
)
_SPEED = tuple(f"{_BOX}.speed.{axis}" for axis in "xy")  # missing where it is not known
_SEGMENTS_KEPT = 4


class _Segment(NamedTuple):
    """What is read of a segment at once."""

    poses: dict[int, np.ndarray]  # time (us) to vehicle2world (4, 4)
    lasers: dict[int, dict[str, np.ndarray]]  # LiDAR to its `range_image_points` arguments


@DATASETS.register_module()
class Waymo(TransformedDataset):
    """Frames of one split, as docs/conventions.md lays samples out; reads files, never augments.

    Points of all LiDARs and boxes are in the vehicle's frame (x forward, y left, z up), as published: it stands for the
    LiDAR's frame, and ``lidar2ego`` is the identity. Points of the top LiDAR are corrected for the vehicle's motion
    during the turn, pixel by pixel. Speeds are recorded in the world and turned into the vehicle's frame; unknown ones
    are NaN. A sample also has ``difficulty`` (K,) int64, 1 or 2: the level of each box. The token is
    ``<segment>/<time in us>``; ``tokens`` lists all.

    Args:
        root: folder with a folder for each split, of those the folders lidar, lidar_calibration, lidar_pose,
            vehicle_pose and, where labelled, lidar_box, of one ``<segment>.parquet`` a segment.
        split: training, validation or testing.
        transforms: callables applied in order to each sample; one that returns None drops the sample.
        num_sweeps: older frames, each moved by the recorded motion; fewer where the segment begins.
        returns: of each beam, 1 or 2.
        classes: of `CLASSES`; labels index into it. Boxes of others are left out, and boxes without a point.
        test_mode: a sample that a transform drops is an error instead of being replaced by another one.
    Raises:
        ImportError: no pyarrow.
        FileNotFoundError: no such split.
        ValueError: an argument names something unknown, there is no frame, or a table cannot be read.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        split: str,
        transforms: Sequence[Callable[[dict], dict | None]] = (),
        num_sweeps: int = 0,
        returns: int = 2,
        classes: Sequence[str] = CLASSES,
        test_mode: bool = False,
    ) -> None:
        super().__init__(split=split, transforms=transforms, test_mode=test_mode)
        unknown = [name for name in classes if name not in CLASSES]
        if unknown or not classes:
            raise ValueError(f"Waymo: classes must be of {', '.join(CLASSES)}, got {list(classes)}")
        if num_sweeps < 0 or returns not in (1, 2):
            raise ValueError(f"Waymo: num_sweeps must be 0 or more and returns 1 or 2, got {num_sweeps} and {returns}")
        self.root, self.num_sweeps, self.returns = Path(root), int(num_sweeps), returns
        self.classes, self.folder = tuple(classes), Path(root) / split
        segments = sorted((self.folder / "vehicle_pose").glob("*.parquet"))
        if not segments:
            raise FileNotFoundError(f"Waymo: {self.folder / 'vehicle_pose'} must have .parquet files, but has none")
        self._frames = [
            (path.stem, time)
            for path in segments
            for time in np.unique(whole_numbers(path, read_table(path, [_TIME]), _TIME)).tolist()
        ]
        if not self._frames:
            raise ValueError(f"Waymo: {self.folder} must have frames, got none")
        self.tokens = [f"{segment}/{time}" for segment, time in self._frames]
        self._segment = Recent(self._read_segment, most=_SEGMENTS_KEPT)

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def metainfo(self) -> dict:
        """What an evaluator needs to know of this data set."""
        return {"classes": self.classes, "root": str(self.root), "split": self.split}

    def read_sample(self, index: int) -> dict:
        """Return a sample without transforms.

        Raises:
            IndexError: no such sample.
            FileNotFoundError, ValueError: a table is missing, cannot be read, or lacks the frame or a LiDAR of it; the
                message names it.
        """
        index = self.check_index(index)
        segment, time = self._frames[index]
        tables = self._segment(segment)
        sample = {
            "sample_token": self.tokens[index],
            "scene_name": segment,
            "location": "",
            "sample_index": index,
            "timestamp": time * 1e-6,
            "lidar2ego": np.eye(4),
            "ego2global": tables.poses[time],
            "lidar_aug": np.eye(4),
            "points": self._read_points(index, tables),
        }
        path = self.folder / "lidar_box" / f"{segment}.parquet"
        return sample | self._boxes(path, time, tables.poses[time]) if path.is_file() else sample

    def sample_labels(self, index: int) -> np.ndarray:
        """Return the labels of the boxes of a sample, (K,) int64, without reading points."""
        segment, time = self._frames[self.check_index(index)]
        return self._boxes(self.folder / "lidar_box" / f"{segment}.parquet", time, np.eye(4))["labels"]

    def _read_points(self, index: int, tables: _Segment) -> np.ndarray:
        segment, time = self._frames[index]
        world2vehicle = invert_rigid(tables.poses[time])
        sweeps = []
        for number in range(index, max(-1, index - self.num_sweeps - 1), -1):
            name, older = self._frames[number]
            if name != segment:
                break
            points = self._read_frame(segment, older, tables)
            if older != time:
                points = transform_points(points, world2vehicle @ tables.poses[older])
            points[:, 4] = (time - older) * 1e-6
            sweeps.append(points)
        return np.concatenate(sweeps)

    def _read_frame(self, segment: str, time: int, tables: _Segment) -> np.ndarray:
        """Return the points of all LiDARs at one time, (N, 5) float32."""
        path = self.folder / "lidar" / f"{segment}.parquet"
        names = [f"[LiDARComponent].range_image_return{r}.{part}" for r in (1, 2) for part in ("values", "shape")]
        table = read_table(path, [_LASER, *names[: 2 * self.returns]], where={_TIME: time})
        pixel_poses = self._pixel_poses(segment, time)
        clouds = []
        for laser in LASERS:
            rows = np.flatnonzero(table[_LASER] == laser)
            if len(rows) != 1 or laser not in tables.lasers:
                raise ValueError(f"Waymo: {path} must have LiDAR {laser} and its calibration at {time} us")
            for values, shape in zip(names[0 : 2 * self.returns : 2], names[1 : 2 * self.returns : 2], strict=True):
                where = f"{path}: LiDAR {laser} at {time} us"
                image = range_image(table[values][rows[0]], table[shape][rows[0]], 4, where=where)
                extra = {"pixel_poses": pixel_poses, "vehicle2world": tables.poses[time]} if laser == TOP else {}
                try:
                    clouds.append(range_image_points(image, **tables.lasers[laser], **extra))
                except ValueError as error:
                    raise ValueError(f"Waymo: {where}: {error}") from error
        return np.concatenate(clouds)

    def _pixel_poses(self, segment: str, time: int) -> np.ndarray:
        path = self.folder / "lidar_pose" / f"{segment}.parquet"
        columns = [_LASER, f"{_PIXEL_POSE}.values", f"{_PIXEL_POSE}.shape"]
        table = read_table(path, columns, where={_TIME: time})
        rows = np.flatnonzero(table[_LASER] == TOP)
        if len(rows) != 1:
            raise ValueError(f"Waymo: {path} must have the poses of the top LiDAR's pixels at {time} us")
        return range_image(table[columns[1]][rows[0]], table[columns[2]][rows[0]], 6, where=f"{path} at {time} us")

    def _read_segment(self, segment: str) -> _Segment:
        path = self.folder / "vehicle_pose" / f"{segment}.parquet"
        table = read_table(path, [_TIME, _POSE])
        poses = {time: _matrix(path, value, f"pose at {time} us") for time, value in _rows(path, table, _TIME, _POSE)}
        path = self.folder / "lidar_calibration" / f"{segment}.parquet"
        table = read_table(path, [_LASER, _EXTRINSIC, *_INCLINATION])
        lasers = {}
        for row, (laser, value) in enumerate(_rows(path, table, _LASER, _EXTRINSIC)):
            low, high, values = (table[name][row] for name in _INCLINATION)
            beams = (low, high) if values is None or len(values) == 0 else values
            matrix = _matrix(path, value, f"extrinsic of LiDAR {laser}")
            lasers[laser] = {"lidar2vehicle": matrix, "inclinations": np.asarray(beams, np.float64)}
        return _Segment(poses, lasers)

    def _boxes(self, path: Path, time: int, vehicle2world: np.ndarray) -> dict[str, np.ndarray]:
        count, level, kind = f"{_BOX}.num_lidar_points_in_box", f"{_BOX}.difficulty_level.detection", f"{_BOX}.type"
        table = read_table(path, [*_BOX_COLUMNS, *_SPEED, count, level, kind], where={_TIME: time})
        speeds = np.stack([table[name].astype(np.float64) for name in _SPEED] + [np.zeros(len(table[kind]))], -1)
        boxes = np.column_stack([stack_columns(path, table, _BOX_COLUMNS), (speeds @ vehicle2world[:3, :3])[:, :2]])
        counts, hard = (np.nan_to_num(table[name].astype(np.float64)).astype(np.int64) for name in (count, level))
        names = [_TYPES.get(int(value)) for value in whole_numbers(path, table, kind)]
        keep = np.array([name in self.classes for name in names], bool) & (counts > 0)
        return {
            "boxes": boxes[keep].astype(np.float32),
            "labels": np.array([self.classes.index(names[i]) for i in np.flatnonzero(keep)], np.int64),
            "num_lidar_pts": counts[keep],
            "difficulty": np.where(hard > 0, hard, np.where(counts <= FEW_POINTS, 2, 1))[keep],
        }


def _rows(path: Path, table: dict[str, Any], key: str, value: str) -> list[tuple[int, np.ndarray | None]]:
    """Return key and value of each row."""
    return list(zip(whole_numbers(path, table, key).tolist(), table[value], strict=True))


def _matrix(path: Path, value: np.ndarray | None, what: str) -> np.ndarray:
    """Return a (4, 4) matrix of its numbers."""
    if value is None or len(value) != 16 or not np.isfinite(value).all():
        got = "none" if value is None else f"{len(value)}"
        raise ValueError(f"Waymo: {path}: the {what} must be 16 finite numbers, got {got}")
    return np.asarray(value, np.float64).reshape(4, 4)
