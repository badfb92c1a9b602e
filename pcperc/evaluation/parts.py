# SPDX-License-Identifier: Apache-2.0
"""Scores of parts of shapes: the mean over parts of one shape, then over shapes (instance) or over categories (class).

Source: Qi et al., "PointNet", CVPR 2017, section 5.1, whose rule for parts that a shape lacks everyone follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from pcperc.evaluation.report import table_text
from pcperc.evaluation.segmentation import IGNORED


def shape_iou(truth: np.ndarray, predicted: np.ndarray, *, parts: Sequence[int]) -> float:
    """Return the mean over parts of the intersection over union of one shape.

    Args:
        truth: (N,) integers of ``parts``, or 255 for a point that is not scored.
        predicted: (N,) integers; a number that is none of ``parts`` is a miss.
        parts: part numbers of the shape's category. A part that the shape neither has nor was given counts as 1.
    Returns:
        In [0, 1]; 1 for a shape without scored points.
    Raises:
        ValueError: lengths that differ, no parts, or a truth that is no part.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.ndim != 1 or truth.shape != predicted.shape:
        shapes = f"{truth.shape} and {predicted.shape}"
        raise ValueError(f"shape_iou: truth and predicted must be (N,) of one length, got {shapes}")
    if len(parts) == 0:
        raise ValueError("shape_iou: parts must name at least one part, got none")
    scored = truth != IGNORED
    truth, predicted = truth[scored], predicted[scored]
    wrong = truth[~np.isin(truth, parts)]
    if len(wrong):
        raise ValueError(f"shape_iou: truth must be of the parts {tuple(parts)} or {IGNORED}, got {wrong[0]}")
    ious = []
    for part in parts:
        is_part, was_given = truth == part, predicted == part
        union = int((is_part | was_given).sum())
        ious.append(int((is_part & was_given).sum()) / union if union else 1.0)
    return float(np.mean(ious))


def part_scores(ious: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return ``{"instance_mIoU", "class_mIoU", "<category>/mIoU", ...}`` from the shapes' IoU of each category.

    Categories without shapes are left out of all of them; without any shape the result is empty.
    """
    found = {category: list(values) for category, values in ious.items() if len(values)}
    if not found:
        return {}
    means = {category: float(np.mean(values)) for category, values in found.items()}
    shapes = [value for values in found.values() for value in values]
    return {
        "instance_mIoU": float(np.mean(shapes)),
        "class_mIoU": float(np.mean(list(means.values()))),
        **{f"{category}/mIoU": value for category, value in means.items()},
    }


def format_part_scores(ious: Mapping[str, Sequence[float]], *, title: str) -> str:
    """Return the scores as a table in plain text."""
    scores = part_scores(ious)
    table = Table(title=title, title_justify="left")
    table.add_column("category")
    for name in ("mIoU", "shapes"):
        table.add_column(name, justify="right")
    for category, values in ious.items():
        table.add_row(category, f"{scores[f'{category}/mIoU']:.3f}" if len(values) else "-", f"{len(values):,}")
    table.add_section()
    count = sum(map(len, ious.values()))
    for name, label in (("instance_mIoU", "mean of shapes"), ("class_mIoU", "mean of categories")):
        table.add_row(label, f"{scores[name]:.3f}" if scores else "-", f"{count:,}")
    return table_text(table)
