# SPDX-License-Identifier: Apache-2.0
"""The results file of tracking: rows by sample token."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pcperc.evaluation.nuscenes_results import (
    MAX_BOXES,
    check_finite_boxes,
    read_rows,
    results_header,
    rows_to_detections,
)
from pcperc.files import written_whole
from pcperc.geometry import Tracks, boxes_to_nuscenes

TRACKING_RESULTS_NAME = "results_tracking.json"
TRACKING_CLASSES = ("bicycle", "bus", "car", "motorcycle", "pedestrian", "trailer", "truck")


def tracks_to_rows(tracks: Tracks, *, sample_token: str, classes: Sequence[str]) -> list[dict]:
    """Convert the tracks of one sample, in the world frame, into rows of the results file.

    At most 500, the best scored, as the devkit asks for. Classes that the task lacks are left out.
    """
    found = tracks.numpy()
    found = found.filter(np.array([classes[label] in TRACKING_CLASSES for label in found.labels], bool))
    if len(found) > MAX_BOXES:
        found = found.filter(np.sort(np.argsort(-found.scores, kind="stable")[:MAX_BOXES]))
    check_finite_boxes(found, sample_token)
    columns = boxes_to_nuscenes(found.boxes, np.eye(4))
    return [
        {
            "sample_token": sample_token,
            **{key: columns[key][i].tolist() for key in ("translation", "size", "rotation")},
            "velocity": np.nan_to_num(columns["velocity"][i]).tolist(),
            "tracking_id": str(int(found.ids[i])),
            "tracking_name": classes[label],
            "tracking_score": float(found.scores[i]),
        }
        for i, label in enumerate(found.labels)
    ]


def write_tracking_results(
    path: str | Path,
    tracks: dict[str, Tracks],
    *,
    classes: Sequence[str],
    modalities: Sequence[str] = ("lidar", "camera"),
) -> Path:
    """Write a tracking results file, in the form that the devkit and the server take.

    Args:
        path: file to write; it appears under its name when it is complete.
        tracks: in the world frame, by sample token.
        classes: names by label.
        modalities: what the detector looked at, for the file's header.
    Returns:
        ``path``.
    """
    path = Path(path)
    rows = {token: tracks_to_rows(own, sample_token=token, classes=classes) for token, own in tracks.items()}
    with written_whole(path) as partial:
        partial.write_text(json.dumps({"meta": results_header(modalities), "results": rows}, allow_nan=False))
    return path


def read_tracking_results(path: str | Path) -> dict[str, list[dict]]:
    """Read a tracking results file: rows by sample token.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, or not of this form; the message names the sample.
    """
    rows = read_rows(path, kind="tracking")
    for token, own in rows.items():
        for row in own:
            if not isinstance(row.get("tracking_id"), str) or not row["tracking_id"]:
                got = row.get("tracking_id")
                raise ValueError(
                    f"results file {path}: a box of sample {token}: 'tracking_id' must be a name, got {got!r}"
                )
    return rows


def rows_to_tracks(rows: Sequence[dict], lidar2global: np.ndarray, *, classes: Sequence[str]) -> Tracks:
    """Convert the rows of one sample back into tracks in the LiDAR frame, highest score first.

    A tracking_id that is no whole number gets one by its letters: the same for the same name.
    """
    rows = sorted((row for row in rows if row["tracking_name"] in classes), key=lambda row: -row["tracking_score"])
    renamed = [{**row, **{f"detection_{key}": row[f"tracking_{key}"] for key in ("name", "score")}} for row in rows]
    found = rows_to_detections(renamed, lidar2global, classes=classes)
    ids = [_number(row["tracking_id"]) for row in rows]
    return Tracks(found.boxes, found.scores, found.labels, torch.tensor(ids, dtype=torch.int64))


def _number(name: str) -> int:
    if name.isdecimal() and len(name) < 19:
        return int(name)
    return int.from_bytes(name.encode()[-7:] + len(name).to_bytes(1, "big"), "big") & (2**63 - 1)
