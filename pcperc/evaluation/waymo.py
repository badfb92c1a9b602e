# SPDX-License-Identifier: Apache-2.0
"""The metric of Waymo's 3D detection: AP and APH at levels 1 and 2, over all and by range."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from rich.table import Table

from pcperc.evaluation.by_sample import MetricBySample
from pcperc.evaluation.nuscenes_results import check_finite_boxes
from pcperc.evaluation.report import table_text, write_report
from pcperc.evaluation.waymo_scores import KINDS, RANGES, Truth, waymo_scores
from pcperc.registry import METRICS
from pcperc.simulated import simulated_note


@METRICS.register_module()
class WaymoMetric(MetricBySample):
    """AP and APH of `Waymo`'s frames, over every frame of the split; see `waymo_scores`.

    Args:
        output_dir: receives scores.json; None keeps the numbers alone.
    """

    task = "object"

    def __init__(self, *, output_dir: str | Path | None = None) -> None:
        super().__init__()
        self.output_dir = output_dir

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[Any]) -> None:
        """Take the detections of a batch, one entry a sample of ``data_batch["samples"]``."""
        for sample, found in self.pairs(data_batch, data_samples):
            if "difficulty" not in sample:
                raise ValueError(f"WaymoMetric: sample {sample['sample_token']} must have boxes to be scored")
            truth = Truth(*(np.asarray(sample[key]) for key in ("boxes", "labels", "difficulty")))
            found = found.numpy()
            check_finite_boxes(found, sample["sample_token"])
            self.results.append((sample["sample_token"], truth, found))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Score (sample_token, truth, detections) of each sample."""
        meta = self.dataset_meta or {}
        scores = waymo_scores([t for _, t, _ in results], [d for _, _, d in results], classes=meta["classes"])
        means = {kind: _mean([row[kind] for row in scores.values()]) for kind in KINDS}
        title = f"Waymo detection, {meta.get('split', '')}{simulated_note(meta)}"
        table = _table(title, scores, means)
        flat = {f"{name}/{key}": value for name, row in scores.items() for key, value in row.items()}
        flat |= {f"m{kind}": value for kind, value in means.items()}
        flat = {key: value for key, value in flat.items() if value == value}
        print_log("\n" + table, logger="current", level=logging.INFO)
        if self.output_dir is not None:
            write_report(self.output_dir, title=title, scores=flat, table=table, num_frames=len(results))
        return flat


def _mean(values: Sequence[float]) -> float:
    """Return the mean of those that are known, NaN without any."""
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")


def _table(title: str, scores: dict[str, dict[str, float]], means: dict[str, float]) -> str:
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for kind in KINDS:
        table.add_column(kind, justify="right")

    def add_row(name: str, values: dict[str, float], prefix: str = "") -> None:
        shown = (values[prefix + kind] for kind in KINDS)
        table.add_row(name, *("-" if value != value else f"{value:.4f}" for value in shown))

    for name, row in scores.items():
        add_row(name, row)
        for part in RANGES:
            add_row(f"  {part}", row, f"{part}/")
    table.add_section()
    add_row("mean", means)
    return table_text(table)
