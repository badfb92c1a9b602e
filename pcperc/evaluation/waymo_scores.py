# SPDX-License-Identifier: Apache-2.0
"""Average precision of Waymo's 3D detection, plain (AP) and weighted by heading (APH), by the rules of Waymo's program.

That program needs TensorFlow; this is our own code. Score cutoffs, matching, levels and the area under the curve are
those of its ``compute_detection_metrics_main``, and so are the numbers, to 1e-6 (tests/evaluation/test_waymo.py). As
there, a detection of nothing that is labelled is wrong in zones without labels too.

Source: Sun et al., Scalability in Perception for Autonomous Driving: Waymo Open Dataset, CVPR 2020, section 5.1;
    waymo-open-dataset 1.6.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from pcperc.geometry import Detections, wrap_angle
from pcperc.ops import box_iou_3d

MIN_OVERLAP = {"VEHICLE": 0.7, "PEDESTRIAN": 0.5, "CYCLIST": 0.5}  # intersection over union of volumes
LEVELS = (1, 2)
RANGES = {"0-30m": (0.0, 30.0), "30-50m": (30.0, 50.0), "50m+": (50.0, np.inf)}  # from the vehicle's origin to the box
KINDS = tuple(f"L{level}/{kind}" for level in LEVELS for kind in ("AP", "APH"))
_CUTOFFS = (np.arange(101) * 0.01).astype(np.float32)  # scores are float32, too
_MAX_RECALL_STEP = 0.05  # wider gaps of the curve are filled with the precision behind them


class Truth(NamedTuple):
    """The true boxes of a frame: (K, >= 7), (K,) labels, (K,) levels 1 or 2."""

    boxes: np.ndarray
    labels: np.ndarray
    difficulty: np.ndarray


class _Counts(NamedTuple):
    """Of a class in some frames, at each of C cutoffs."""

    hits: np.ndarray  # (C,) detections that found a box, of either level
    weights: np.ndarray  # (C,) their heading accuracies, added up
    found: np.ndarray  # (C,) all detections
    missed: np.ndarray  # (C, 2) boxes that nothing found, up to level 1 and 2
    total: np.ndarray  # (2,) boxes up to level 1 and 2


def waymo_scores(
    truth: Sequence[Truth], found: Sequence[Detections], *, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Score the detections of some frames.

    At each of 101 cutoffs (0, 0.01 ... 1) the detections of a frame that score as much are matched with its boxes of
    their class, so that the sum of overlaps, of pairs that overlap enough, is largest. At level 1 boxes of level 2 need
    not be found, and count where they are. For APH a hit counts 1 - |heading error| / pi in precision, and 1 in recall.
    For a range, boxes and detections are those whose centres are in it.

    Args:
        truth: of each frame.
        found: of each frame, in the same order; numpy.
        classes: names by label, of `MIN_OVERLAP`.
    Returns:
        class to `KINDS` ("L1/AP" ...) and, for each of `RANGES`, "0-30m/L1/AP" ..., in 0..1; NaN for a level without a
        true box.
    Raises:
        ValueError: no frame, another number of frames, or a class without an overlap.
    """
    if not truth or len(truth) != len(found):
        raise ValueError(
            f"waymo_scores: found must be of the {len(truth)} frames of truth, at least 1, got {len(found)}"
        )
    unknown = [name for name in classes if name not in MIN_OVERLAP]
    if unknown:
        raise ValueError(f"waymo_scores: classes must be of {', '.join(MIN_OVERLAP)}, got {unknown[0]!r}")
    scores: dict[str, dict[str, float]] = {}
    for label, name in enumerate(classes):
        frames = [_counts_of_frame(t, d, label, MIN_OVERLAP[name]) for t, d in zip(truth, found, strict=True)]
        scores[name] = {}
        for part in ("", *RANGES):
            counts = _Counts(*(sum(column) for column in zip(*(frame[part] for frame in frames), strict=True)))
            scores[name] |= {f"{part}/{kind}".lstrip("/"): value for kind, value in _precisions(counts).items()}
    return scores


def _counts_of_frame(truth: Truth, found: Detections, label: int, min_overlap: float) -> dict[str, _Counts]:
    """Return the counts of one class in a frame, over all ("") and by range."""
    mine, own = truth.labels == label, found.labels == label
    boxes, made = (np.asarray(b, np.float64)[:, :7] for b in (truth.boxes[mine], found.boxes[own]))
    levels, scores = truth.difficulty[mine], np.asarray(found.scores, np.float32)[own]
    iou = box_iou_3d(*(torch.from_numpy(np.ascontiguousarray(b)) for b in (made, boxes))).numpy()
    iou = np.where(iou >= min_overlap, iou, 0)
    accuracy = 1 - np.abs(wrap_angle(made[:, None, 6] - boxes[None, :, 6])) / np.pi
    distances = [np.linalg.norm(b[:, :3], axis=1) for b in (made, boxes)]
    counts = {"": _count(iou, accuracy, scores, levels)}
    for name, (near, far) in RANGES.items():
        rows, columns = (np.flatnonzero((near <= d) & (d < far)) for d in distances)
        pairs = np.ix_(rows, columns)
        counts[name] = _count(iou[pairs], accuracy[pairs], scores[rows], levels[columns])
    return counts


def _count(iou: np.ndarray, accuracy: np.ndarray, scores: np.ndarray, levels: np.ndarray) -> _Counts:
    """Match at every cutoff. ``iou``, ``accuracy`` (P, K); an overlap of 0 is no pair."""
    passed = np.searchsorted(_CUTOFFS, scores, side="right")  # (P,) how many cutoffs each detection reaches
    up_to_level = (levels[:, None] <= np.array(LEVELS)).astype(np.int64)
    hits, weights = np.zeros(len(_CUTOFFS), np.int64), np.zeros(len(_CUTOFFS))
    missed = np.tile(up_to_level.sum(0), (len(_CUTOFFS), 1))
    overlapping = np.flatnonzero(iou.any(axis=1))
    first = 0
    for last in np.unique(passed[overlapping]):  # between these cutoffs the same detections can be matched
        rows = overlapping[passed[overlapping] >= last]
        pairs = linear_sum_assignment(iou[rows], maximize=True)
        matched = iou[rows][pairs] > 0
        row, column = rows[pairs[0][matched]], pairs[1][matched]
        hits[first:last], weights[first:last] = len(row), accuracy[row, column].sum()
        missed[first:last] -= up_to_level[column].sum(0)
        first = last
    found = (passed[:, None] > np.arange(len(_CUTOFFS))).sum(0)
    return _Counts(hits, weights, found, missed, up_to_level.sum(0))


def _precisions(counts: _Counts) -> dict[str, float]:
    """Return AP and APH at each level of `LEVELS`."""
    scores = {}
    for column, level in enumerate(LEVELS):
        recall = counts.hits / np.maximum(counts.hits + counts.missed[:, column], 1)
        for kind, gained in (("AP", counts.hits), ("APH", counts.weights)):
            area = _area(gained / np.maximum(counts.found, 1), recall)
            scores[f"L{level}/{kind}"] = area if counts.total[column] else float("nan")
    return scores


def _area(precision: np.ndarray, recall: np.ndarray) -> float:
    """Return the area under precision (C,) over recall (C,), precision made to fall: a line between points that are at
    most `_MAX_RECALL_STEP` apart, a step before wider gaps, and the highest precision down to a recall of 0."""
    best: dict[float, float] = {}
    for p, r in zip(precision.tolist(), recall.tolist(), strict=True):
        if r > 0:
            best[r] = max(best.get(r, 0.0), p)
    points: list[tuple[float, float]] = []  # (recall, precision), recall falling
    highest = 0.0
    for r in sorted((0.0, *best), reverse=True):
        while points and points[-1][0] - r > _MAX_RECALL_STEP + 1e-6:
            points.append((points[-1][0] - _MAX_RECALL_STEP, highest))
        highest = max(highest, best.get(r, 0.0))
        points.append((r, highest))
    area = sum(0.5 * (a[0] - b[0]) * (a[1] + b[1]) for a, b in zip(points, points[1:], strict=False))
    return min(area, 1.0)  # its terms are rounded
