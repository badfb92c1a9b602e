# SPDX-License-Identifier: Apache-2.0
"""Where the LiDAR of a SemanticKITTI sequence was, and when."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pcperc.geometry import invert_rigid


def read_poses(folder: str | Path) -> np.ndarray | None:
    """Return lidar2global of each scan of a sequence, (N, 4, 4) float64; None without poses.txt.

    poses.txt has the pose of the left camera, calib.txt the LiDAR's place before it (``Tr``); the world is the frame of
    the LiDAR at the first pose, if that is the identity.

    Raises:
        FileNotFoundError: poses.txt, but no calib.txt.
        ValueError: a file is malformed; the message names it.
    """
    folder = Path(folder)
    if not (folder / "poses.txt").is_file():
        return None
    if not (folder / "calib.txt").is_file():
        raise FileNotFoundError(f"{folder / 'calib.txt'} is missing, without which poses.txt cannot be read")
    lines = [line.partition(":") for line in _text(folder / "calib.txt").splitlines()]
    rows = {key.strip(): values for key, _, values in lines}
    if "Tr" not in rows:
        raise ValueError(f"{folder / 'calib.txt'} must have a row 'Tr:', got {', '.join(sorted(rows))}")
    lidar2camera = _matrices(folder / "calib.txt", rows["Tr"])[0]
    camera2world = _matrices(folder / "poses.txt", _text(folder / "poses.txt"))
    return invert_rigid(lidar2camera) @ camera2world @ lidar2camera


def read_times(folder: str | Path) -> np.ndarray | None:
    """Return the time of each scan in seconds, (N,) float64; None without times.txt.

    Raises:
        ValueError: the file is malformed; the message names it.
    """
    path = Path(folder) / "times.txt"
    return _numbers(path, _text(path)) if path.is_file() else None


def _matrices(path: Path, text: str) -> np.ndarray:
    """Return the (N, 4, 4) matrices written as rows of 12 numbers."""
    numbers = _numbers(path, text)
    if len(numbers) == 0 or len(numbers) % 12:
        raise ValueError(f"{path} must have rows of 12 numbers, got {len(numbers)} numbers")
    matrices = np.tile(np.eye(4), (len(numbers) // 12, 1, 1))
    matrices[:, :3] = numbers.reshape(-1, 3, 4)
    return matrices


def _numbers(path: Path, text: str) -> np.ndarray:
    try:
        numbers = np.array(text.split(), np.float64)
    except ValueError as error:
        raise ValueError(f"{path} must hold numbers: {error}") from error
    if not np.isfinite(numbers).all():
        raise ValueError(f"{path} must hold finite numbers, got NaN or infinity")
    return numbers


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text: {error}") from error
