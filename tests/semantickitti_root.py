# SPDX-License-Identifier: Apache-2.0
"""A small SemanticKITTI root for tests, written by plain file operations."""

import json
from pathlib import Path

import numpy as np

# Recorded numbers of the file format, one of each kind: scored, joined by one convention, moving, ignored.
RECORDED = np.array([10, 11, 13, 16, 40, 60, 70, 52, 99, 252, 257, 259, 0, 1, 81])
NUM_POINTS = 60
SPLITS = {"sim_train": ["00", "01"], "sim_val": ["02"]}


def scan_of(seed: int, count: int = NUM_POINTS) -> np.ndarray:
    """(N, 4) float32: points around the sensor, remission in [0, 1]."""
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [rng.uniform([-20, -20, -2], [20, 20, 2], (count, 3)), rng.uniform(0, 1, (count, 1))], 1
    ).astype(np.float32)


def labels_of(seed: int, count: int = NUM_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Recorded classes and instances, (N,) each."""
    rng = np.random.default_rng(1000 + seed)
    return rng.choice(RECORDED, count), rng.integers(0, 5, count)


def write_scan(folder: Path, frame: int, seed: int, count: int = NUM_POINTS) -> None:
    for name in ("velodyne", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "velodyne" / f"{frame:06d}.bin").write_bytes(scan_of(seed, count).tobytes())
    classes, instances = labels_of(seed, count)
    (folder / "labels" / f"{frame:06d}.label").write_bytes((classes | instances << 16).astype("<u4").tobytes())


def write_root(root: Path, *, frames: int = 2) -> Path:
    """Sequences 00, 01 and 02 of ``frames`` scans each; scan ``frame`` of sequence ``s`` has the seed 10 s + frame."""
    for sequence in range(3):
        folder = root / "sequences" / f"{sequence:02d}"
        for frame in range(frames):
            write_scan(folder, frame, 10 * sequence + frame)
        rows = [np.eye(4)[:3].copy() for _ in range(frames)]
        for frame, row in enumerate(rows):
            row[2, 3] = 1.5 * frame  # the camera looks along z: forward
        (folder / "poses.txt").write_text("\n".join(" ".join(map(str, row.ravel())) for row in rows) + "\n")
        # Camera: x right, y down, z forward; LiDAR: x forward, y left, z up, 0.3 m before it.
        lidar2camera = "0 -1 0 0 0 0 -1 0 1 0 0 -0.3"
        (folder / "calib.txt").write_text(f"P0: {'0 ' * 12}\nTr: {lidar2camera}\n")
        (folder / "times.txt").write_text("".join(f"{0.1 * frame:e}\n" for frame in range(frames)))
    (root / "splits.json").write_text(json.dumps(SPLITS))
    return root
