# SPDX-License-Identifier: Apache-2.0
"""Scores of segmentation: from a class for each point to intersection over union (IoU)."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from pcperc.geometry import IGNORED

ABSENT = ("skip", "zero", "one")  # rules of `mean_iou` for classes that do not occur


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Count the points of each class by what was predicted.

    Args:
        truth: (N,) integers in [0, num_classes), or 255 for a point that is not scored.
        predicted: (N,) integers in [0, num_classes), or 255 where nothing was said: a miss of the true class.
        num_classes: C.
    Returns:
        (C, C + 1) int64: rows are true classes, columns predicted ones, the last one those without.
    Raises:
        ValueError: lengths that differ, or other numbers.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.ndim != 1 or truth.shape != predicted.shape:
        raise ValueError(
            f"confusion_matrix: truth and predicted must be (N,) of one length, got {truth.shape} and {predicted.shape}"
        )
    for name, labels in (("truth", truth), ("predicted", predicted)):
        wrong = labels[(labels != IGNORED) & ((labels < 0) | (labels >= num_classes))]
        if len(wrong):
            raise ValueError(f"confusion_matrix: {name} must be in [0, {num_classes}) or {IGNORED}, got {wrong[0]}")
    scored = truth != IGNORED
    column = np.where(predicted == IGNORED, num_classes, predicted)[scored].astype(np.int64)
    pairs = truth[scored].astype(np.int64) * (num_classes + 1) + column
    return np.bincount(pairs, minlength=num_classes * (num_classes + 1)).reshape(num_classes, num_classes + 1)


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """Return the IoU of each class, (C,) float64; NaN where no point has or was given it."""
    hits = np.diagonal(confusion).astype(np.float64)
    union = confusion.sum(1) + confusion[:, : len(confusion)].sum(0) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def mean_iou(confusion: np.ndarray, *, absent: str = "skip") -> float:
    """Return the mean of the IoU over classes.

    Args:
        confusion: as of `confusion_matrix`, summed over all scans.
        absent: what a class counts that does not occur. Where it is not predicted either, "skip" leaves it out, as the
            nuScenes devkit and mmdetection3d do, and "zero" counts 0, the rule of semantic-kitti-api; with both it
            counts 0 where it is predicted. "one" counts 1 in either case, the rule of the code published with SPVNAS.
            On the whole validation set of SemanticKITTI every class occurs and the three agree.
    Returns:
        In [0, 1]; NaN where no class is left.
    Raises:
        ValueError: another rule.
    """
    if absent not in ABSENT:
        raise ValueError(f"mean_iou: absent must be one of {', '.join(ABSENT)}, got {absent!r}")
    iou = iou_per_class(confusion)
    if absent == "skip":
        iou = iou[~np.isnan(iou)]
    else:
        iou = np.nan_to_num(iou) if absent == "zero" else np.where(confusion.sum(1) > 0, iou, 1.0)
    return float(iou.mean()) if len(iou) else float("nan")


def scores_of(confusion: np.ndarray, classes: Sequence[str], *, absent: str = "skip") -> dict[str, float]:
    """Return ``{"mIoU", "accuracy", "<class>/IoU", ...}``; what is undefined (NaN) is left out.

    ``accuracy`` is the share of the scored points that were given their class.
    """
    total = confusion.sum()
    scores = {
        "mIoU": mean_iou(confusion, absent=absent),
        "accuracy": float(np.diagonal(confusion).sum() / total) if total else float("nan"),
        **{f"{name}/IoU": float(iou) for name, iou in zip(classes, iou_per_class(confusion), strict=True)},
    }
    return {key: value for key, value in scores.items() if value == value}


def format_scores(confusion: np.ndarray, classes: Sequence[str], *, title: str, absent: str = "skip") -> str:
    """Return the scores as a table in plain text."""
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for name in ("IoU", "points"):
        table.add_column(name, justify="right")
    iou, points = iou_per_class(confusion), confusion.sum(1)
    for name, value, count in zip(classes, iou, points, strict=True):
        table.add_row(name, "-" if np.isnan(value) else f"{value:.3f}", f"{count:,}")
    table.add_section()
    table.add_row("mean", f"{mean_iou(confusion, absent=absent):.3f}", f"{points.sum():,}")
    text = io.StringIO()
    console = Console(file=text, width=100)
    console.print(table)
    missing = int((points == 0).sum() if absent == "one" else np.isnan(iou).sum())
    if missing:
        neither = "neither occur nor are predicted"
        told = {"skip": f"{neither}: left out of the mean", "zero": f"{neither}: counted as 0"}
        console.print(f"{missing} classes {told.get(absent, 'do not occur: counted as 1')}", highlight=False)
    return text.getvalue()
