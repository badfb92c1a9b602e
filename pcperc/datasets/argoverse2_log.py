# SPDX-License-Identifier: Apache-2.0
"""A log of Argoverse 2: its sweeps, poses, boxes and city."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcperc.geometry import quaternion_to_matrix
from pcperc.tables import read_table, stack_columns, whole_numbers

MAX_TRACK_GAP_NS = 1_500_000_000  # between the boxes that a velocity is taken from
POSE = ("qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")
_SIZE = ("length_m", "width_m", "height_m")


@dataclass(frozen=True)
class Log:
    """What is read of a log at once: poses by time, and annotations.

    Attributes:
        folder: of the log.
        poses: time (ns) to city_SE3_egovehicle (4, 4).
        boxes: time (ns) to (boxes (K, 9) float64, categories (K,), num_interior_pts (K,), track ids (K,)) in the
            vehicle's frame; None where the log has no annotations.
    """

    folder: Path
    poses: dict[int, np.ndarray]
    boxes: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] | None


def read_sweep(path: str | Path) -> np.ndarray:
    """Read a LiDAR sweep of Argoverse 2: (N, 5) float32 ``[x, y, z, intensity, 0]`` in the vehicle's frame.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read, lacks a column or a point, or has a value that is no finite number.
    """
    columns = ["x", "y", "z", "intensity"]
    points = stack_columns(path, read_table(path, columns), columns).astype(np.float32)
    if len(points) == 0:
        raise ValueError(f"sweep {path} must have points, got none")
    return np.concatenate([points, np.zeros((len(points), 1), np.float32)], axis=1)


def read_log(folder: Path) -> Log:
    """Read poses and annotations of a log.

    Raises:
        FileNotFoundError, ValueError: a table is missing or cannot be read, or lacks a column or a value; the message
            names it.
    """
    path = folder / "city_SE3_egovehicle.feather"
    table = read_table(path, ["timestamp_ns", *POSE])
    poses = dict(zip(whole_numbers(path, table, "timestamp_ns").tolist(), read_poses(path, table), strict=True))
    path = folder / "annotations.feather"
    if not path.is_file():
        return Log(folder, poses, None)
    table = read_table(path, ["timestamp_ns", "track_uuid", "category", *_SIZE, *POSE, "num_interior_pts"])
    placed = read_poses(path, table)
    centre, yaw = placed[:, :3, 3], np.arctan2(placed[:, 1, 0], placed[:, 0, 0])
    times, tracks = whole_numbers(path, table, "timestamp_ns"), table["track_uuid"]
    counts = whole_numbers(path, table, "num_interior_pts")
    size = stack_columns(path, table, _SIZE)
    boxes = np.column_stack([centre, size, yaw, _velocities(times, tracks, centre, poses)])
    by_time = {}
    for time in np.unique(times):
        rows = np.flatnonzero(times == time)
        by_time[int(time)] = (boxes[rows], table["category"][rows], counts[rows], tracks[rows])
    return Log(folder, poses, by_time)


def _velocities(times: np.ndarray, tracks: np.ndarray, centre: np.ndarray, poses: dict[int, np.ndarray]) -> np.ndarray:
    """Return (K, 2) m/s in the vehicle's frame, from the place before to the one after; NaN where these are far."""
    velocities = np.full((len(times), 2), np.nan)
    known = np.array([time in poses for time in times.tolist()], bool)
    for track in np.unique(tracks):
        rows = np.flatnonzero((tracks == track) & known)
        rows = rows[np.argsort(times[rows], kind="stable")]
        moments = times[rows].tolist()
        city = np.array([poses[t][:3, :3] @ centre[r] + poses[t][:3, 3] for t, r in zip(moments, rows, strict=True)])
        for i, row in enumerate(rows):
            before, after = max(i - 1, 0), min(i + 1, len(rows) - 1)
            gap = moments[after] - moments[before]
            if 0 < gap <= MAX_TRACK_GAP_NS:
                moved = (city[after] - city[before]) / (gap * 1e-9)
                velocities[row] = (poses[moments[i]][:3, :3].T @ moved)[:2]
    return velocities


def read_poses(path: Path, table: dict[str, np.ndarray]) -> np.ndarray:
    """Return the poses (N, 4, 4) of a table that was read from ``path``.

    Raises:
        ValueError: a value that is no finite number, or a quaternion whose length is not 1; the message names it.
    """
    values = stack_columns(path, table, POSE)
    lengths = np.linalg.norm(values[:, :4], axis=1)
    wrong = np.flatnonzero(np.abs(lengths - 1) >= 1e-3)
    if len(wrong):
        raise ValueError(f"table {path}: quaternions must have length 1, got {lengths[wrong[0]]:.6g} in row {wrong[0]}")
    matrices = np.tile(np.eye(4), (len(values), 1, 1))
    matrices[:, :3, :3] = quaternion_to_matrix(values[:, :4])
    matrices[:, :3, 3] = values[:, 4:]
    return matrices


def pose_at(log: Log, time: int) -> np.ndarray:
    """Return city_SE3_egovehicle (4, 4) at a time (ns); ValueError where the log has none."""
    if time not in log.poses:
        raise ValueError(f"Argoverse2: {log.folder / 'city_SE3_egovehicle.feather'} must have a pose at {time} ns")
    return log.poses[time]


def sweep_times(folder: Path) -> list[int]:
    """Return the times (ns) of a log's sweeps, by their names."""
    lidar = folder / "sensors" / "lidar"
    if not lidar.is_dir():
        raise FileNotFoundError(f"Argoverse2: log {folder} must have {lidar.relative_to(folder)}, but has none")
    return sorted(_by_time(lidar, ".feather"))


def image_times(folder: Path, camera: str) -> dict[int, Path]:
    """Return time (ns) to file of a camera's images, by their names; empty for a log without the camera."""
    return _by_time(folder / "sensors" / "cameras" / camera, ".jpg")


def _by_time(folder: Path, ending: str) -> dict[int, Path]:
    paths = list(folder.glob(f"*{ending}"))
    wrong = [path.name for path in paths if not path.stem.isdecimal()]
    if wrong:
        raise ValueError(f"Argoverse2: files in {folder} must be called by their time in ns, got {wrong[0]}")
    return {int(path.stem): path for path in paths}


def city_name(folder: Path) -> str:
    """Return the city that a map's name tells (log_map_archive_<log>____PIT_city_12345.json), "" without a map."""
    names = [path.stem for path in (folder / "map").glob("log_map_archive_*.json")]
    return names[0].partition("____")[2].partition("_city_")[0] if names else ""
