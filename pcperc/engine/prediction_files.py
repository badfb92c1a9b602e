# SPDX-License-Identifier: Apache-2.0
"""What infer.py writes of a prediction: rows of the result file, and files beside it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pcperc.datasets import MAP_CLASSES, LabelMap
from pcperc.engine.cloud_inference import describe_class
from pcperc.engine.hit_inference import describe_clusters, write_clusters
from pcperc.files import written_whole
from pcperc.geometry import IGNORED, CloudClass, Detections, HitClusters, MapPrediction, PointLabels

MOST_LISTED = 20  # files that are told one by one
Found = dict[str, int]  # what was found in a file, such as {"objects": 5}


def write_prediction(
    found: Any, sample: dict, out: Path, min_score: float, classes: Sequence[str], label_map: LabelMap | None
) -> tuple[dict[str, list[dict]], Found]:
    """Write what belongs beside the result file ``out``; return the parts of that file, and what was found."""
    parts, counts = {}, {}
    for result in found.values() if isinstance(found, dict) else [found]:
        if isinstance(result, HitClusters):
            key, rows, counted = _write_clusters(result, sample["hits"], out)
        elif isinstance(result, PointLabels):
            key, rows, counted = _write_labels(result, label_map, out)
        elif isinstance(result, MapPrediction):
            key, rows, counted = _write_map(result, out)
        elif isinstance(result, CloudClass):
            rows = describe_class(result)
            key, counted = "class", {row["class"]: 1 for row in rows}
        else:
            rows = describe(result.filter(result.scores >= min_score), classes)
            key, counted = "detections", {"objects": len(rows)}
        parts[key] = rows
        counts |= counted
    return parts, counts


def told(found: Mapping[str, int]) -> str:
    """Say what was found in one file."""
    return ", ".join(_counted(count, what) for what, count in found.items()) or "nothing"


def told_of_all(found: Mapping[Path, Found]) -> str:
    """Say what was found in each file, a line each; of many files in all, and in how many nothing."""
    if len(found) <= MOST_LISTED:
        return "\n".join(f"{path}: {told(of_file)}" for path, of_file in found.items())
    total: Counter[str] = Counter()
    for of_file in found.values():
        total.update(of_file)
    empty = sum(not any(of_file.values()) for of_file in found.values())
    without = f"; nothing in {empty} of them" if empty else ""
    folder = next(iter(found)).parent
    return f"{len(found)} results in {folder}: {told(total)}{without}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what[:-1] if count == 1 and what in ('objects', 'clusters', 'points', 'maps') else what}"


def _write_clusters(found: HitClusters, hits: np.ndarray, out: Path) -> tuple[str, list[dict], Found]:
    """Write the cluster of each hit beside ``out``; return the key and rows of the result file, and their number."""
    rows = describe_clusters(found, hits)
    write_clusters(out.with_suffix(".clusters.npz"), found, rows)
    return "clusters", rows, {"clusters": len(rows)}


def _write_labels(found: PointLabels, label_map: LabelMap, out: Path) -> tuple[str, list[dict], Found]:
    """The same of the class of each point."""
    with written_whole(out.with_suffix(".label")) as partial:
        partial.write_bytes(label_map.to_recorded(found.numpy().labels).astype("<u4").tobytes())
    return "classes", describe_labels(found, label_map), {"points": len(found)}


def _write_map(found: MapPrediction, out: Path) -> tuple[str, list[dict], Found]:
    """The same of the probabilities of a map."""
    with written_whole(out.with_suffix(".map.npy")) as partial, open(partial, "wb") as file:
        np.save(file, found.numpy().probabilities.astype(np.float32))
    return "map", describe_map(found, MAP_CLASSES), {"maps": 1}


def describe(detections: Detections, classes: Sequence[str]) -> list[dict]:
    """Return detections as plain data: metres, radians, metres a second, in the LiDAR's frame."""
    rows = []
    for box, score, label in zip(
        detections.boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True
    ):
        x, y, z, length, width, height, yaw, vx, vy = (round(value, 4) for value in box)
        rows.append(
            {
                "class": classes[label],
                "score": round(score, 4),
                "center": [x, y, z],
                "size_lwh": [length, width, height],
                "yaw": yaw,
                "velocity": [vx, vy],
            }
        )
    return rows


def describe_labels(found: PointLabels, label_map: LabelMap) -> list[dict]:
    """Return how many points have each class that occurs, with what number, and the mean probability of it.

    The probability is among all classes of the data set, of parts also those of other categories.
    """
    found = found.numpy()
    rows = []
    for label in np.unique(found.labels[found.labels != IGNORED]):
        own = found.labels == label
        rows.append(
            {
                "class": label_map.classes[label],
                "number": int(label_map.recorded_ids[label]),
                "points": int(own.sum()),
                "mean_score": round(float(found.scores[own].mean()), 4),
            }
        )
    return rows


def describe_map(found: MapPrediction, classes: Sequence[str], *, threshold: float = 0.5) -> list[dict]:
    """Return how many square metres around the vehicle each class has, where its probability reaches the threshold."""
    found = found.numpy()
    square_metres = float(np.prod(found.grid.cell_size))
    cells = (found.probabilities >= threshold).sum(axis=(1, 2))
    return [
        {"class": name, "square_metres": round(float(count) * square_metres, 2)}
        for name, count in zip(classes, cells, strict=True)
    ]
