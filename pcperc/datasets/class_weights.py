# SPDX-License-Identifier: Apache-2.0
"""Class weights of a loss from how often each class is recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.progress import track

from pcperc.geometry import IGNORED


def count_labels(dataset: Any, *, show_progress: bool = False) -> np.ndarray:
    """Count the labelled points of every sample by class, without reading points and without transforms.

    Args:
        dataset: has ``classes`` and ``read_point_labels(index)``, as `SemanticKITTI` and `NuScenesLidarSeg`.
        show_progress: show a bar with the time left.
    Returns:
        (C,) int64.
    Raises:
        ValueError: a sample has no labels.
    """
    counts = np.zeros(len(dataset.classes), np.int64)
    for index in track(range(len(dataset)), description="labels", disable=not show_progress):
        labels = dataset.read_point_labels(index)
        if labels is None:
            raise ValueError(f"count_labels: samples must have labels, sample {index} of {dataset.split} has none")
        counts += np.bincount(labels[labels != IGNORED], minlength=len(counts))
    return counts


def class_weights(counts: np.ndarray, *, exponent: float = 0.5) -> np.ndarray:
    """Return weights that fall with the share of a class: ``share ** -exponent``, times one factor.

    The factor makes the mean weight of a labelled point 1, so that the learning rate keeps its meaning.

    Args:
        counts: (C,) labelled points by class. One that never occurs counts as if it had one point.
        exponent: 0 weighs all alike, 1 gives every class the same part in the loss.
    Returns:
        (C,) float64.
    Raises:
        ValueError: negative counts, no point at all, or an exponent outside [0, 1].
    """
    counts = np.asarray(counts)
    if counts.ndim != 1 or not (counts >= 0).all() or counts.sum() == 0 or not 0 <= exponent <= 1:
        raise ValueError(
            f"class_weights: counts must be >= 0, not all 0, and exponent in [0, 1], got {counts} and {exponent}"
        )
    share = np.maximum(counts, 1) / counts.sum()
    weights = share**-exponent
    return weights / (weights * counts / counts.sum()).sum()
