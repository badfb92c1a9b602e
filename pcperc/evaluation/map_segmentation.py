# SPDX-License-Identifier: Apache-2.0
"""Scores of BEV map segmentation: intersection over union (IoU) of each class at the threshold that suits it best."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from rich.table import Table

from pcperc.evaluation.by_sample import MetricBySample
from pcperc.evaluation.report import table_text, write_report
from pcperc.geometry import MapPrediction
from pcperc.registry import METRICS
from pcperc.simulated import simulated_note

# Of the probability; Liu et al., BEVFusion, ICRA 2023, section IV.
THRESHOLDS = (0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65)


def count_cells(truth: np.ndarray, probabilities: np.ndarray, thresholds: Sequence[float] = THRESHOLDS) -> np.ndarray:
    """Count the cells of each class that are in the truth and the prediction, and in either of them.

    Args:
        truth: (C, X, Y) bool.
        probabilities: (C, X, Y) floating; a cell is predicted where its probability is at least the threshold.
        thresholds: T numbers; they are compared in the probabilities' own precision.
    Returns:
        (C, T, 2) int64: intersection and union. Counts of samples add up.
    Raises:
        ValueError: the shapes differ, truth is not bool, or a probability is not in [0, 1].
    """
    if truth.dtype != bool or truth.ndim != 3 or truth.shape != probabilities.shape:
        raise ValueError(
            "count_cells: truth must be (C, X, Y) bool and probabilities of that shape, "
            f"got {truth.shape} {truth.dtype} and {probabilities.shape}"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():  # NaN is not either
        raise ValueError("count_cells: probabilities must be in [0, 1], got others")
    found = [probabilities >= probabilities.dtype.type(threshold) for threshold in thresholds]
    both = [(mask & truth).sum(axis=(1, 2)) for mask in found]
    either = [(mask | truth).sum(axis=(1, 2)) for mask in found]
    return np.stack([np.stack(both, 1), np.stack(either, 1)], -1).astype(np.int64)


def map_iou(counts: np.ndarray) -> np.ndarray:
    """Return the IoU of each class at each threshold, (C, T) float64; NaN where it neither is nor is predicted."""
    both, either = counts[..., 0], counts[..., 1]
    return np.where(either > 0, both / np.maximum(either, 1), np.nan)


def map_scores(
    counts: np.ndarray, classes: Sequence[str], thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, float]:
    """Return ``{"map/mIoU", "map/<class>/IoU", "map/<class>/IoU@0.50", ...}``.

    A class counts with the best of its thresholds, and the mean is over these. What is undefined (NaN) is left out,
    also of the mean; a class that has no cell in the truth and any in a prediction counts 0.
    """
    iou = map_iou(counts)
    best = {name: np.nanmax(values) for name, values in zip(classes, iou, strict=True) if not np.isnan(values).all()}
    scores = {"map/mIoU": float(np.mean(list(best.values()))) if best else float("nan")}
    for name, values in zip(classes, iou, strict=True):
        scores[f"map/{name}/IoU"] = float(best.get(name, np.nan))
        scores.update({f"map/{name}/IoU@{at:.2f}": float(value) for at, value in zip(thresholds, values, strict=True)})
    return {key: value for key, value in scores.items() if value == value}


def format_map_scores(scores: dict[str, float], classes: Sequence[str], *, title: str) -> str:
    """Return the scores as a table in plain text."""
    table = Table(title=title, title_justify="left")
    for name in ("class", "IoU", *(f"@{at:.2f}" for at in THRESHOLDS)):
        table.add_column(name, justify="left" if name == "class" else "right")
    for name in classes:
        keys = [f"map/{name}/IoU", *(f"map/{name}/IoU@{at:.2f}" for at in THRESHOLDS)]
        table.add_row(name, *(f"{scores[key]:.3f}" if key in scores else "-" for key in keys))
    return f"{table_text(table)}mIoU: {scores.get('map/mIoU', float('nan')):.4f}\n"


@METRICS.register_module()
class MapMetric(MetricBySample):
    """IoU of the classes of the map, over all cells of all samples.

    Args:
        output_dir: receives scores.json; None keeps the numbers alone.
        classes: names in the order of the masks; None takes ``map_classes`` from the data set's ``metainfo``.
    """

    task = "map"

    def __init__(self, *, output_dir: str | Path | None = None, classes: Sequence[str] | None = None) -> None:
        super().__init__()
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.classes = classes

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[MapPrediction]) -> None:
        """Take the predictions of a batch, one entry a sample of ``data_batch["samples"]``."""
        for sample, prediction in self.pairs(data_batch, data_samples):
            token = sample["sample_token"]
            if "map_masks" not in sample:
                raise ValueError(f"MapMetric: sample {token} must have map_masks to be scored, but has none")
            truth = torch.as_tensor(sample["map_masks"]).cpu().numpy()
            self.results.append((token, count_cells(truth, prediction.numpy().probabilities)))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Score (sample_token, counts) of each sample."""
        meta = self.dataset_meta or {}
        classes = meta.get("map_classes") if self.classes is None else self.classes
        if classes is None:
            raise ValueError("MapMetric: map_classes must be in the metainfo of the data set (with_map=True), or given")
        scores = map_scores(sum(counts for _, counts in results), classes)
        names = f"{meta.get('version', '')} {meta.get('split', '')}".strip()
        title = f"BEV map segmentation, {names}" + simulated_note(meta)
        table = format_map_scores(scores, classes, title=title)
        print_log("\n" + table, logger="current", level=logging.INFO)
        if self.output_dir is not None:
            write_report(self.output_dir, title=title, scores=scores, table=table, num_samples=len(results))
        return scores
