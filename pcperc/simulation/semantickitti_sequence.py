# SPDX-License-Identifier: Apache-2.0
"""One simulated sequence in SemanticKITTI's layout: drive through a world, scan, and write the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcperc.geometry import invert_rigid, rigid_matrix
from pcperc.simulation.driving.labels import actor_label, count_classes
from pcperc.simulation.driving.world import World
from pcperc.simulation.semantickitti_lidar import scan
from pcperc.simulation.semantickitti_world import build_world

SCAN_SECONDS = 0.1
LIDAR2EGO = rigid_matrix((0.8, 0.0, 1.73), np.eye(3))  # x forward, y left, z up, above the ground between the wheels
# The left camera: x right, y down, z forward. Its files give poses of this camera, so a reader needs this matrix.
LIDAR2CAMERA = rigid_matrix((0.0, -0.08, -0.27), np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]))
FOCAL, CENTRE, BASELINES = 718.856, (607.193, 185.216), (0.0, 0.537, -0.06, 0.47)
FEWEST_POINTS = 3  # of every class in a sequence
ATTEMPTS = 30


@dataclass(frozen=True)
class Recording:
    """How a sequence is recorded: ``scans``, 10 a second, of ``columns`` firings of each of 64 beams."""

    scans: int
    columns: int


@dataclass(frozen=True)
class Sequence:
    """What was recorded: of each scan points (N, 4) float32, labels (N,) uint32 and lidar2global (4, 4)."""

    points: list[np.ndarray]
    labels: list[np.ndarray]
    poses: list[np.ndarray]


def record(world: World, recording: Recording, rng: np.random.Generator) -> Sequence:
    """Drive through a world and scan it; every draw happens in a fixed order."""
    actor_labels = np.array([actor_label(actor, index) for index, actor in enumerate(world.actors)], np.int64)
    sequence = Sequence([], [], [])
    for frame in range(recording.scans):
        t = frame * SCAN_SECONDS
        pose = world.ego_pose(t) @ LIDAR2EGO
        points, labels = scan(world.primitives(t), world.road, actor_labels, pose, rng, columns=recording.columns)
        sequence.points.append(points)
        sequence.labels.append(labels)
        sequence.poses.append(pose)
    return sequence


def missing_classes(sequence: Sequence) -> list[int]:
    """Return the numbers of ``labels.SCORED`` that fewer than ``FEWEST_POINTS`` points show."""
    counts = count_classes(np.concatenate(sequence.labels))
    return [number for number, count in counts.items() if count < FEWEST_POINTS]


def simulate_sequence(seed: int, index: int, recording: Recording) -> Sequence:
    """Return sequence ``index``; a world in which a class is hidden all the time is replaced by another one.

    Raises:
        RuntimeError: no world showed every class, which means that the recording has too few scans or columns.
    """
    for attempt in range(ATTEMPTS):
        sequence = record(
            build_world(seed, index, attempt), recording, np.random.default_rng([seed, index, attempt, 65])
        )
        missing = missing_classes(sequence)
        if not missing:
            return sequence
    raise RuntimeError(f"simulate: sequence {index} never shows all classes with {recording}, last missing {missing}")


def write_sequence(folder: Path, sequence: Sequence) -> None:
    """Write the files of one sequence into ``folder``, which must not exist."""
    for name in ("velodyne", "labels"):
        (folder / name).mkdir(parents=True)
    for frame, (points, labels) in enumerate(zip(sequence.points, sequence.labels, strict=True)):
        (folder / "velodyne" / f"{frame:06d}.bin").write_bytes(points.astype("<f4").tobytes())
        (folder / "labels" / f"{frame:06d}.label").write_bytes(labels.astype("<u4").tobytes())
    start = invert_rigid(sequence.poses[0])
    poses = [LIDAR2CAMERA @ start @ pose @ invert_rigid(LIDAR2CAMERA) for pose in sequence.poses]
    _write_text(folder / "poses.txt", [_numbers(pose[:3]) for pose in poses])
    times = [f"{frame * SCAN_SECONDS:.6e}" for frame in range(len(poses))]
    _write_text(folder / "times.txt", times)
    rows = [f"P{i}: {_numbers(_projection(baseline))}" for i, baseline in enumerate(BASELINES)]
    _write_text(folder / "calib.txt", [*rows, f"Tr: {_numbers(LIDAR2CAMERA[:3])}"])
    _write_text(
        folder / "SIMULATED", ["Simulated by pcperc: no recording of KITTI, whatever the number of the sequence."]
    )


def _projection(baseline: float) -> np.ndarray:
    """Return the (3, 4) projection of a camera ``baseline`` metres to the right of the left one."""
    return np.array([[FOCAL, 0, CENTRE[0], -FOCAL * baseline], [0, FOCAL, CENTRE[1], 0], [0, 0, 1.0, 0]])


def _numbers(matrix: np.ndarray) -> str:
    return " ".join(f"{value:.12e}" for value in matrix.ravel())


def _write_text(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
