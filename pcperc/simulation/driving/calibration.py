# SPDX-License-Identifier: Apache-2.0
"""Measures what the simulated LiDAR records, and the same of a real key frame, to lay the two side by side.

The simulator is adjusted to these figures and to the look of single sweeps; never to the score of a detector.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pcperc.simulation.driving.lidar import scan
from pcperc.simulation.driving.rig import make_rig
from pcperc.simulation.driving.scene import count_points, lidar_boxes, scene_world

VOXEL = (0.075, 0.075, 0.2)
POINT_RANGE = (-54.0, -54.0, -5.0, 54.0, 54.0, 3.0)
BANDS = (1.2, 5, 10, 20, 30, 40, 54)
CAR_BINS = ((0, 10), (10, 20), (20, 30), (30, 50), (50, 80))


def measure_sweep(points: np.ndarray) -> dict[str, float]:
    """Describe one sweep: points (N, 5) float32 in the sensor's frame."""
    xyz = points[:, :3].astype(np.float32)
    low, high = np.array(POINT_RANGE[:3], np.float32), np.array(POINT_RANGE[3:], np.float32)
    inside = xyz[((xyz >= low) & (xyz < high)).all(1)]
    cells = np.unique(np.floor((inside - low) / np.array(VOXEL, np.float32)).astype(np.int32), axis=0)
    reach = np.linalg.norm(xyz, axis=1)
    out = {"points a sweep": len(points), "voxels": len(cells), "points nearer than 1 m": int((reach < 1).sum())}
    for near, far in zip(BANDS, BANDS[1:], strict=False):
        out[f"points at {near:g} to {far:g} m"] = int(((reach >= near) & (reach < far)).sum())
    echoes = points[reach > 1.2]
    out["points above -1.3 m"] = int((echoes[:, 2] > -1.3).sum())
    for share in (10, 50, 90):
        out[f"intensity, {share} % quantile"] = float(np.percentile(echoes[:, 3], share))
    return out


def points_in_cars(found: list[tuple[float, int]]) -> dict[str, float]:
    """Return the median points in a car's box by range; ``found``: (distance, points) of boxes with points."""
    out = {}
    for near, far in CAR_BINS:
        counts = [n for d, n in found if near <= d < far and n > 0]
        out[f"points in a car at {near} to {far} m"] = float(np.median(counts)) if counts else float("nan")
    return out


def measure_real(root: Path) -> dict[str, float]:
    """Describe the real nuScenes key frame below ``root`` (the folder of the real samples)."""
    folder = next((root / "nuscenes").glob("keyframe_*"))
    frame = json.loads((folder / "keyframe.json").read_text(encoding="utf-8"))
    points = np.fromfile(folder / frame["lidar"]["file"], np.float32).reshape(-1, 5)
    cars = [b for b in frame["boxes"] if b["name"] == "car" and b["valid"]]
    found = [(float(np.hypot(*b["box"][:2])), b["num_lidar_pts"]) for b in cars]
    return {**measure_sweep(points), **points_in_cars(found)}


def measure_simulated(*, scenes: int, seed: int) -> dict[str, float]:
    """Describe the first sweep of ``scenes`` simulated scenes: means over sweeps, medians over cars."""
    sweeps, found = [], []
    for index in range(scenes):
        world, rng = scene_world(seed, index), np.random.default_rng([seed, index, 2])
        ego = world.ego_pose(0.0)
        lidar2global = ego @ make_rig(rng).lidar2ego
        points, _ = scan(world.primitives(0.0), world.road, lidar2global, ego, rng)
        sweeps.append(measure_sweep(points))
        for actor, box in zip(world.actors, lidar_boxes(world, 0.0, lidar2global), strict=True):
            if actor.name == "car":
                found.append((float(np.hypot(*box[:2])), int(count_points(points[:, :3].astype(np.float64), box))))
    means = {key: float(np.mean([sweep[key] for sweep in sweeps])) for key in sweeps[0]}
    return {**means, **points_in_cars(found)}


def compare(root: Path, *, scenes: int = 40, seed: int = 0) -> list[tuple[str, float, float]]:
    """Return rows (figure, real, simulated); NaN where the real key frame has no such car."""
    real, simulated = measure_real(root), measure_simulated(scenes=scenes, seed=seed)
    return [(key, real[key], simulated[key]) for key in real]


def format_table(rows: list[tuple[str, float, float]]) -> str:
    """Return the comparison as a Markdown table."""
    lines = ["| figure | real key frame | simulated | ratio |", "|---|---|---|---|"]
    for key, real, simulated in rows:
        shown = "-" if np.isnan(real) else f"{real:.0f}"
        ratio = "-" if np.isnan(real) or real == 0 else f"{simulated / real:.2f}"
        lines.append(f"| {key} | {shown} | {simulated:.0f} | {ratio} |")
    return "\n".join(lines)
