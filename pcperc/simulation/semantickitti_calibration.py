# SPDX-License-Identifier: Apache-2.0
"""Measures labelled scans of 64 beams, simulated and real, to lay the two side by side.

The simulator is adjusted to these figures; never to the score of a network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pcperc.simulation.driving.labels import NAMES, count_classes
from pcperc.simulation.semantickitti_lidar import COLUMNS
from pcperc.simulation.semantickitti_sequence import Recording, simulate_sequence

BANDS = (0, 5, 10, 15, 20, 30, 40, 50, 80)
VOXEL = 0.05
# Per cent of the points of sequences 00 to 10: `content` in semantic-kitti-api's config/semantic-kitti.yaml, summed by
# the official convention. One scan says little of how often a class occurs.
PUBLISHED_SHARE = dict(
    zip(
        NAMES,
        (
            4.26,
            0.017,
            0.040,
            0.217,
            0.181,
            0.034,
            0.0127,
            0.0037,
            19.9,
            1.47,
            14.4,
            0.39,
            13.3,
            7.24,
            26.7,
            0.60,
            7.81,
            0.29,
            0.062,
        ),
        strict=True,
    )
)


def measure_scan(points: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Describe one scan: points (N, 4) float32 and labels (N,) uint32 as in the files."""
    reach = np.linalg.norm(points[:, :3].astype(np.float64), axis=1)
    out = {"points": float(len(points))}
    out["voxels of 0.05 m"] = float(len(np.unique(np.floor(points[:, :3] / VOXEL).astype(np.int32), axis=0)))
    for near, far in zip(BANDS, BANDS[1:], strict=False):
        out[f"points at {near} to {far} m"] = float(((reach >= near) & (reach < far)).sum())
    for share in (10, 50, 90):
        out[f"remission, {share} % quantile (hundredths)"] = float(100 * np.percentile(points[:, 3], share))
    for number, count in count_classes(labels).items():
        out[f"% of {NAMES[number]}"] = 100 * count / len(points)
    return out


def measure_real(root: Path) -> dict[str, float]:
    """Describe the real scan below ``root`` (the folder of the real samples)."""
    folder = root / "semantickitti" / "seq08"
    points = np.fromfile(folder / "velodyne" / "000000.bin", "<f4").reshape(-1, 4)
    return measure_scan(points, np.fromfile(folder / "labels" / "000000.label", "<u4"))


def measure_simulated(*, scenes: int, seed: int) -> dict[str, float]:
    """Return the means over the first scans of ``scenes`` simulated sequences."""
    found = []
    for index in range(scenes):
        sequence = simulate_sequence(seed, index, Recording(scans=1, columns=COLUMNS))
        found.append(measure_scan(sequence.points[0], sequence.labels[0]))
    return {key: float(np.mean([figures[key] for figures in found])) for key in found[0]}


def compare(root: Path, *, scenes: int = 12, seed: int = 0) -> list[tuple[str, float, float]]:
    """Return rows (figure, reference, simulated); the reference is the real scan, for shares the published ones."""
    real, simulated = measure_real(root), measure_simulated(scenes=scenes, seed=seed)
    real |= {f"% of {NAMES[number]}": share for number, share in PUBLISHED_SHARE.items()}
    return [(key, real[key], simulated[key]) for key in real]


def format_table(rows: list[tuple[str, float, float]]) -> str:
    """Return the comparison as a Markdown table."""
    lines = ["| figure | real | simulated | ratio |", "|---|---|---|---|"]
    for key, real, simulated in rows:
        digits = 3 if key.startswith("%") else 0
        lines.append(f"| {key} | {real:.{digits}f} | {simulated:.{digits}f} | {simulated / real:.2f} |")
    return "\n".join(lines)
