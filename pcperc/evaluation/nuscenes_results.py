# SPDX-License-Identifier: Apache-2.0
"""The results file of nuScenes detection: boxes in the world frame, as the devkit and the server take them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pcperc.files import written_whole
from pcperc.geometry import Detections, boxes_from_nuscenes, boxes_to_nuscenes, invert_rigid

MAX_BOXES = 500  # a sample; the devkit refuses more
MOVING_SPEED = 0.2  # m/s
_WRITTEN_BY = {"detection": "tools/test.py --eval nuscenes", "tracking": "tools/test.py --eval tracking"}
# How many numbers each key of a row holds; 0 is one without a list.
_ROW_NUMBERS = {"translation": 3, "size": 3, "rotation": 4, "velocity": 2}

# Attribute of a slow and of a moving object of each class. No detector here predicts attributes; this is the guess of
# the published evaluation code of BEVFusion.
_ATTRIBUTES = {
    "car": ("vehicle.parked", "vehicle.moving"),
    "truck": ("vehicle.parked", "vehicle.moving"),
    "construction_vehicle": ("vehicle.parked", "vehicle.moving"),
    "bus": ("vehicle.stopped", "vehicle.moving"),
    "trailer": ("vehicle.parked", "vehicle.moving"),
    "barrier": ("", ""),
    "motorcycle": ("cycle.without_rider", "cycle.with_rider"),
    "bicycle": ("cycle.without_rider", "cycle.with_rider"),
    "pedestrian": ("pedestrian.standing", "pedestrian.moving"),
    "traffic_cone": ("", ""),
}


def guess_attribute(name: str, velocity: Sequence[float]) -> str:
    """Return the attribute of an object of class ``name`` with a velocity (vx, vy) in m/s; NaN counts as standing."""
    return _ATTRIBUTES[name][int(np.hypot(velocity[0], velocity[1]) > MOVING_SPEED)]


def detections_to_rows(
    detections: Detections, lidar2global: np.ndarray, *, sample_token: str, classes: Sequence[str]
) -> list[dict]:
    """Convert the detections of one sample into rows of the results file.

    Args:
        detections: K boxes in the recorded LiDAR frame. Of more than 500 the best scored are kept.
        lidar2global: (4, 4), ``ego2global @ lidar2ego`` of the key sweep.
        sample_token: of the sample.
        classes: names by label.
    Returns:
        At most 500 rows, in the order of the detections. An unknown (NaN) velocity is written as 0.
    Raises:
        ValueError: a label that ``classes`` lacks, a value that is not finite, or a size <= 0.
    """
    found = detections.numpy()
    if len(found) > MAX_BOXES:
        found = found.filter(np.sort(np.argsort(-found.scores, kind="stable")[:MAX_BOXES]))
    if len(found) and not 0 <= found.labels.min() <= found.labels.max() < len(classes):
        raise ValueError(f"sample {sample_token}: labels must be in [0, {len(classes)}), got {found.labels.tolist()}")
    check_finite_boxes(found, sample_token)
    columns = boxes_to_nuscenes(found.boxes, lidar2global)
    rows = []
    for i, label in enumerate(found.labels):
        velocity = np.nan_to_num(columns["velocity"][i]).tolist()
        rows.append(
            {
                "sample_token": sample_token,
                "translation": columns["translation"][i].tolist(),
                "size": columns["size"][i].tolist(),
                "rotation": columns["rotation"][i].tolist(),
                "velocity": velocity,
                "detection_name": classes[label],
                "detection_score": float(found.scores[i]),
                "attribute_name": guess_attribute(classes[label], velocity),
            }
        )
    return rows


def check_finite_boxes(found: Detections, sample_token: str) -> None:
    """Raise ValueError unless boxes (numpy) are finite and of positive size, and scores finite."""
    bad = ~(np.isfinite(found.boxes[:, :7]).all(1) & (found.boxes[:, 3:6] > 0).all(1) & np.isfinite(found.scores))
    if bad.any():
        row = found.boxes[bad][0].tolist()
        raise ValueError(f"sample {sample_token}: boxes and scores must be finite and sizes > 0, got {row}")


def results_header(modalities: Sequence[str]) -> dict[str, bool]:
    """Return what a results file says that the detector looked at."""
    return {f"use_{name}": name in modalities for name in ("camera", "lidar", "radar", "map", "external")}


def write_results(
    path: str | Path,
    predictions: Iterable[tuple[str, Detections, np.ndarray]],
    *,
    classes: Sequence[str],
    modalities: Sequence[str] = ("lidar", "camera"),
) -> Path:
    """Write results_nusc.json.

    Args:
        path: file to write; it appears under its name when it is complete.
        predictions: (sample_token, detections, lidar2global) of every sample of a split, each once.
        classes: names by label.
        modalities: what the detector looked at, for the file's header.
    Returns:
        ``path``.
    Raises:
        ValueError: as `detections_to_rows`, or a sample that occurs twice.
        OSError: it cannot be written; the message names it.
    """
    path = Path(path)
    seen: set[str] = set()
    # Sample by sample: a split has some million boxes.
    with written_whole(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write('{"meta": ' + json.dumps(results_header(modalities)) + ', "results": {')
        for token, detections, lidar2global in predictions:
            if token in seen:
                raise ValueError(f"write_results: predictions must have each sample once, got {token} twice")
            rows = detections_to_rows(detections, lidar2global, sample_token=token, classes=classes)
            file.write((",\n" if seen else "\n") + json.dumps(token) + ": " + json.dumps(rows, allow_nan=False))
            seen.add(token)
        file.write("\n}}\n")
    return path


def read_results(path: str | Path) -> dict[str, list[dict]]:
    """Read a results file of detection: rows by sample token.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, or not of this form; the message names the sample.
    """
    return read_rows(path, kind="detection")


def read_rows(path: str | Path, *, kind: str) -> dict[str, list[dict]]:
    """Read a results file of ``kind`` "detection" or "tracking", as `read_results`."""
    try:
        content = json.loads(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise FileNotFoundError(f"results file {path} is missing; {_WRITTEN_BY[kind]} writes it") from error
    except ValueError as error:
        raise ValueError(f"results file {path} must be JSON, but cannot be read: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise ValueError(f"results file {path} must have the key 'results' with boxes by sample token")
    for token, rows in content["results"].items():
        if not isinstance(rows, list):
            raise ValueError(
                f"results file {path}: sample {token} must have a list of boxes, got {type(rows).__name__}"
            )
        for row in rows:
            _check_row(row, f"results file {path}: a box of sample {token}", kind)
    return content["results"]


def _check_row(row: Any, where: str, kind: str) -> None:
    """Raise ValueError where a row of a results file lacks what a box needs."""
    if not isinstance(row, dict):
        raise ValueError(f"{where} must be an object, got {type(row).__name__}")
    for key, length in {**_ROW_NUMBERS, f"{kind}_score": 0}.items():
        value = row.get(key)
        numbers = value if length else [value]
        if not isinstance(numbers, list) or len(numbers) != (length or 1):
            numbers = [None]
        good = [isinstance(n, int | float) and (math.isfinite(n) or key == "velocity") for n in numbers]
        if not all(good) or (key == "size" and min(numbers) <= 0):
            expected = f"{length} numbers" if length else "a number"
            raise ValueError(f"{where}: '{key}' must be {expected}{' > 0' * (key == 'size')}, got {value!r}")
    name = row.get(f"{kind}_name")
    if not isinstance(name, str):
        raise ValueError(f"{where}: '{kind}_name' must be a class, got {name!r}")


def rows_to_detections(rows: Sequence[dict], lidar2global: np.ndarray, *, classes: Sequence[str]) -> Detections:
    """Convert the rows of one sample back into detections in the LiDAR frame, highest score first.

    Args:
        rows: of the results file. Classes that ``classes`` lacks are left out.
        lidar2global: as in `detections_to_rows`.
        classes: names by label.
    """
    rows = [row for row in rows if row["detection_name"] in classes]
    rows = sorted(rows, key=lambda row: -row["detection_score"])
    columns = [[row[key] for row in rows] for key in ("translation", "size", "rotation", "velocity")]
    boxes = boxes_from_nuscenes(*columns, invert_rigid(lidar2global))
    return Detections(
        torch.from_numpy(boxes.astype(np.float32)),
        torch.tensor([row["detection_score"] for row in rows], dtype=torch.float32),
        torch.tensor([list(classes).index(row["detection_name"]) for row in rows], dtype=torch.int64),
    )
