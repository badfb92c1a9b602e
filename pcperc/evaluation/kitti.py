# SPDX-License-Identifier: Apache-2.0
"""Average precision of KITTI's 3D and bird's-eye-view detection, by the rules of the official evaluation program.

Source: Geiger, Lenz and Urtasun, "Are we ready for autonomous driving? The KITTI vision benchmark suite", CVPR 2012,
and the devkit's evaluate_object; R40 after Simonelli et al., "Disentangling Monocular 3D Object Detection", ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from rich.table import Table

from pcperc.datasets.kitti_files import KITTIObjects
from pcperc.evaluation.report import table_text
from pcperc.ops import box_iou_3d, box_iou_bev

OVERLAPS = {"3D": box_iou_3d, "BEV": box_iou_bev}
MIN_OVERLAP = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
NEIGHBOURS = {"Car": "Van", "Pedestrian": "Person_sitting"}  # neither objects to be found nor wrong where found
RECALL_STEPS = 41  # precision is read at recalls 0, 1/40, ..., 1
COUNTED, IGNORED, OTHER = 0, 1, -1  # what an object or a detection is to one class at one difficulty


class Difficulty(NamedTuple):
    """Which objects have to be found: higher than so many pixels, at most so occluded, at most so truncated."""

    min_height: float
    max_occlusion: int
    max_truncation: float


DIFFICULTIES = {
    "easy": Difficulty(40, 0, 0.15),
    "moderate": Difficulty(25, 1, 0.30),
    "hard": Difficulty(25, 2, 0.50),
}


class AveragePrecision(NamedTuple):
    """In percent, over 40 and over 11 recalls, and the number of objects to be found; NaN where there are none."""

    r40: float
    r11: float
    num_objects: int


def overlaps_of(truth: KITTIObjects, detections: KITTIObjects, *, kind: str) -> np.ndarray:
    """Return the (K, M) intersections over union of the objects and detections of a frame; ``kind`` of `OVERLAPS`."""
    boxes = [torch.from_numpy(objects.boxes()) for objects in (truth, detections)]
    return OVERLAPS[kind](*boxes).numpy()


def average_precision(
    truth: Sequence[KITTIObjects],
    detections: Sequence[KITTIObjects],
    overlaps: Sequence[np.ndarray],
    *,
    name: str,
    difficulty: str,
) -> AveragePrecision:
    """Return the average precision of one class at one difficulty.

    An object counts where its class is ``name`` and it is no harder than ``difficulty``; harder ones and those of the
    neighbouring class may be found without gain or loss. Thresholds on the score are laid so that recall grows by steps
    of 1/40. As there is at most one for each object that is found, fewer than 41 objects cannot give 100.

    Args:
        truth, detections: of F frames; detections have scores.
        overlaps: F arrays of `overlaps_of`.
        name: a class of `MIN_OVERLAP`. difficulty: of `DIFFICULTIES`.
    Raises:
        ValueError: an unknown class or difficulty, lengths that differ, or a detection without a score.
    """
    if name not in MIN_OVERLAP or difficulty not in DIFFICULTIES:
        known = f"{', '.join(MIN_OVERLAP)} and {', '.join(DIFFICULTIES)}"
        raise ValueError(f"average_precision: name and difficulty must be of {known}, got {name!r}, {difficulty!r}")
    if not len(truth) == len(detections) == len(overlaps):
        got = f"{len(truth)}, {len(detections)} and {len(overlaps)}"
        raise ValueError(f"average_precision: truth, detections and overlaps must be of the same frames, got {got}")
    if any(np.isnan(found.scores).any() for found in detections):
        raise ValueError("average_precision: detections must have scores, got NaN")
    frames = []
    for objects, found, overlap in zip(truth, detections, overlaps, strict=True):
        roles = object_roles(objects, name, DIFFICULTIES[difficulty]), detection_roles(found, name, difficulty)
        if (roles[0] != OTHER).any() or (roles[1] != OTHER).any():
            frames.append((*roles, found.scores, overlap > MIN_OVERLAP[name], overlap))
    num_objects = sum(int((objects == COUNTED).sum()) for objects, *_ in frames)
    if num_objects == 0:
        return AveragePrecision(float("nan"), float("nan"), 0)
    found_at = np.concatenate([_scores_of_found(*frame) for frame in frames])
    thresholds = _recall_thresholds(found_at, num_objects)
    hits, false = np.zeros(len(thresholds)), np.zeros(len(thresholds))
    for frame in frames:
        counts = _count(*frame, thresholds)
        hits, false = hits + counts[0], false + counts[1]
    precision = np.zeros(RECALL_STEPS)
    # A threshold that nothing passes any more, as all was taken by ignored objects, has precision 0.
    precision[: len(thresholds)] = np.divide(hits, hits + false, out=np.zeros_like(hits), where=hits + false > 0)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return AveragePrecision(100 * float(precision[1:].mean()), 100 * float(precision[::4].mean()), num_objects)


def object_roles(objects: KITTIObjects, name: str, difficulty: Difficulty) -> np.ndarray:
    """Return (K,) what each labelled object is: `COUNTED`, `IGNORED` or `OTHER`."""
    height = objects.boxes_2d[:, 3] - objects.boxes_2d[:, 1]
    hard = (objects.occlusion > difficulty.max_occlusion) | (objects.truncation > difficulty.max_truncation)
    hard |= height <= difficulty.min_height
    own, near = objects.types == name, objects.types == NEIGHBOURS.get(name)
    return np.where(own & ~hard, COUNTED, np.where(own | near, IGNORED, OTHER))


def detection_roles(found: KITTIObjects, name: str, difficulty: str) -> np.ndarray:
    """Return (M,) what each detection is: one that is too low on the image is `IGNORED`, of whatever class it is."""
    low = np.abs(found.boxes_2d[:, 3] - found.boxes_2d[:, 1]) < DIFFICULTIES[difficulty].min_height
    return np.where(low, IGNORED, np.where(found.types == name, COUNTED, OTHER))


def _scores_of_found(objects, found, scores, close, overlap) -> np.ndarray:
    """Return the scores of the counted detections that find a counted object, where each object, in turn, takes the
    detection of the highest score that is close enough and free."""
    free, taken = found != OTHER, []
    for k in np.flatnonzero(objects != OTHER):
        options = np.flatnonzero(free & close[k])
        if len(options) == 0:
            continue
        best = options[scores[options].argmax()]
        free[best] = False
        if objects[k] == COUNTED and found[best] == COUNTED:
            taken.append(scores[best])
    return np.array(taken, np.float64)


def _recall_thresholds(scores: np.ndarray, num_objects: int) -> np.ndarray:
    """Return at most 41 of the scores of found objects, falling: those at which recall is nearest to 0, 1/40, ..."""
    scores, thresholds, wanted = np.sort(scores)[::-1], [], 0.0
    for rank, score in enumerate(scores):
        last = rank == len(scores) - 1
        left, right = (rank + 1) / num_objects, (rank + 1 if last else rank + 2) / num_objects
        if not last and right - wanted < wanted - left:
            continue
        thresholds.append(score)
        wanted += 1 / (RECALL_STEPS - 1)
    return np.array(thresholds[:RECALL_STEPS])


def _count(objects, found, scores, close, overlap, thresholds) -> tuple[np.ndarray, np.ndarray]:
    """Return the hits and the false detections of a frame at each of T thresholds, (T,) each.

    Each object, in turn, takes the free counted detection that overlaps it most. Where there is none but an ignored
    one, it is not missed either; precision knows no misses, so that ignored detections are not looked at here.
    """
    free = (scores >= thresholds[:, None]) & (found == COUNTED)  # (T, M)
    hits, rows = np.zeros(len(thresholds)), np.arange(len(thresholds))
    for k in np.flatnonzero(objects != OTHER) if len(found) else ():
        options = free & close[k]
        has, best = options.any(1), np.where(options, overlap[k], -1.0).argmax(1)
        hits += has & (objects[k] == COUNTED)
        free[rows[has], best[has]] = False
    return hits, free.sum(1)


def kitti_scores(
    truth: Sequence[KITTIObjects], detections: Sequence[KITTIObjects], *, classes: Sequence[str]
) -> dict[str, AveragePrecision]:
    """Return ``{"<class>/<3D or BEV>/<difficulty>": AveragePrecision, ...}`` over the frames."""
    scores = {}
    for kind in OVERLAPS:
        overlaps = [overlaps_of(*pair, kind=kind) for pair in zip(truth, detections, strict=True)]
        for name in classes:
            for level in DIFFICULTIES:
                found = average_precision(truth, detections, overlaps, name=name, difficulty=level)
                scores[f"{name}/{kind}/{level}"] = found
    return scores


def flat_scores(scores: dict[str, AveragePrecision]) -> dict[str, float]:
    """Return ``{"<class>/3D/R40/easy": percent, ...}``; what has no objects is left out."""
    flat = {}
    for key, found in scores.items():
        name, kind, level = key.split("/")
        for recalls, value in (("R40", found.r40), ("R11", found.r11)):
            if found.num_objects:
                flat[f"{name}/{kind}/{recalls}/{level}"] = value
    return flat


def format_kitti_scores(scores: dict[str, AveragePrecision], *, title: str) -> str:
    """Return the scores as a table in plain text."""
    table = Table(title=title, title_justify="left")
    for name in ("class", "boxes", "recalls"):
        table.add_column(name)
    for level in DIFFICULTIES:
        table.add_column(level, justify="right")
    table.add_column("objects", justify="right")
    rows = dict.fromkeys(key.rpartition("/")[0] for key in scores)
    for row in rows:
        name, kind = row.split("/")
        found = [scores[f"{row}/{level}"] for level in DIFFICULTIES]
        counts = " / ".join(str(each.num_objects) for each in found)
        for recalls in ("R40", "R11"):
            values = [getattr(each, recalls.lower()) for each in found]
            cells = ["-" if np.isnan(value) else f"{value:.2f}" for value in values]
            table.add_row(name, f"{kind} @ {MIN_OVERLAP[name]}", recalls, *cells, counts)
    return table_text(table)
