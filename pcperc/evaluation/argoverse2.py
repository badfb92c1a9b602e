# SPDX-License-Identifier: Apache-2.0
"""Detections on Argoverse 2: the table that its server takes, and scores by the official evaluation, av2's."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from rich.table import Table

from pcperc.datasets.argoverse2 import CATEGORIES
from pcperc.datasets.argoverse2_log import read_log
from pcperc.evaluation.by_sample import MetricBySample
from pcperc.evaluation.nuscenes_results import check_finite_boxes
from pcperc.evaluation.report import table_text, write_report
from pcperc.geometry import Detections
from pcperc.registry import METRICS
from pcperc.simulated import simulated_note
from pcperc.tables import read_table, write_table

RESULTS_NAME = "detections_av2.feather"
_CUBOID = ("tx_m", "ty_m", "tz_m", "length_m", "width_m", "height_m", "qw", "qx", "qy", "qz")
_KEYS = ("log_id", "timestamp_ns", "category")
SCORES = ("AP", "ATE", "ASE", "AOE", "CDS")


def write_argoverse2_results(
    path: str | Path, predictions: Iterable[tuple[str, Detections]], *, classes: Sequence[str]
) -> Path:
    """Write a table of detections as the server takes it.

    Args:
        path: of the .feather file.
        predictions: (sample token ``<log>/<time in ns>``, detections in the vehicle's frame).
        classes: categories by label.
    Raises:
        ValueError: boxes that are not finite or of no size.
    """
    rows: dict[str, list] = {name: [] for name in (*_KEYS, *_CUBOID, "score")}
    for token, detections in predictions:
        found = detections.numpy()
        check_finite_boxes(found, token)
        log, _, time = token.rpartition("/")
        boxes = np.asarray(found.boxes, np.float64)
        half, zero = boxes[:, 6] / 2, np.zeros(len(boxes))
        cuboids = np.column_stack([boxes[:, :6], np.cos(half), zero, zero, np.sin(half)])
        rows["log_id"] += [log] * len(boxes)
        rows["timestamp_ns"] += [int(time)] * len(boxes)
        rows["category"] += [classes[label] for label in found.labels]
        rows["score"] += found.scores.tolist()
        for name, column in zip(_CUBOID, cuboids.T, strict=True):
            rows[name] += column.tolist()
    return write_table(path, rows)


def evaluate_argoverse2(
    results: str | Path, tokens: Sequence[str], *, root: str | Path, split: str, in_map_only: bool = True
) -> dict[str, dict[str, float]]:
    """Score a table of detections with av2's evaluation: average precision by centre distance, errors, CDS.

    Args:
        results: see `write_argoverse2_results`.
        tokens: the samples that are scored.
        root, split: of the data set.
        in_map_only: leave out what lies farther than 5 m from the drivable area, as the server does; needs the maps.
    Returns:
        By category and, under ``AVERAGE_METRICS``, for their mean: AP, ATE, ASE, AOE, CDS. A category without a true
        box has AP 0, as the official evaluation counts it.
    Raises:
        ImportError: av2 is not installed.
        ValueError: detections of other samples, or none at all.
    """
    try:
        import pandas
        from av2.evaluation.detection.eval import evaluate
        from av2.evaluation.detection.utils import DetectionCfg
    except ImportError as error:
        raise ImportError(
            f"evaluate_argoverse2: av2 must be installed (pip install 'pcperc[argoverse2]'): {error}"
        ) from error
    found = read_table(results, [*_KEYS, *_CUBOID, "score"])
    given = {f"{log}/{time}" for log, time in zip(found["log_id"], found["timestamp_ns"], strict=True)}
    if given - set(tokens) or not given:
        other = sorted(given - set(tokens))
        what = f"other samples, first {other[0]}" if other else "no detection"
        raise ValueError(f"evaluate_argoverse2: {results} must hold detections of the split's samples, got {what}")
    folder = Path(root) / split
    truth = pandas.DataFrame(_truth_rows(folder, tokens))
    config = DetectionCfg(dataset_dir=folder if in_map_only else None, eval_only_roi_instances=in_map_only)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, inside av2
        _, _, scores = evaluate(pandas.DataFrame(found), truth, config, n_jobs=1)
    return {str(name): {key: float(row[key]) for key in SCORES} for name, row in scores.iterrows()}


def _truth_rows(folder: Path, tokens: Sequence[str]) -> dict[str, list]:
    """Return the annotations of the samples as columns."""
    wanted: dict[str, list[int]] = {}
    for token in tokens:
        log, _, time = token.rpartition("/")
        wanted.setdefault(log, []).append(int(time))
    columns = ["timestamp_ns", "category", *_CUBOID, "num_interior_pts"]
    rows: dict[str, list] = {name: [] for name in ("log_id", *columns)}
    for log, times in wanted.items():
        table = read_table(folder / log / "annotations.feather", columns)
        keep = np.isin(table["timestamp_ns"], times)
        rows["log_id"] += [log] * int(keep.sum())
        for name in columns:
            rows[name] += table[name][keep].tolist()
    return rows


@METRICS.register_module()
class Argoverse2Metric(MetricBySample):
    """Collects detections over all processes, writes the server's table and scores it with av2.

    Args:
        output_dir: receives detections_av2.feather and scores.json; None keeps the numbers alone.
        in_map_only: see `evaluate_argoverse2`; simulated logs have no maps.
        format_only: write the table and return no score.
    """

    def __init__(
        self, *, output_dir: str | Path | None = None, in_map_only: bool = True, format_only: bool = False
    ) -> None:
        super().__init__()
        if format_only and output_dir is None:
            raise ValueError("Argoverse2Metric: output_dir must be given with format_only, got None")
        self.output_dir, self.in_map_only, self.format_only = output_dir, in_map_only, format_only

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[Detections]) -> None:
        """Take the detections of a batch, one entry a sample of ``data_batch["samples"]``."""
        samples = data_batch["samples"]
        if len(samples) != len(data_samples):
            raise ValueError(
                f"Argoverse2Metric: data_samples must have {len(samples)} entries, got {len(data_samples)}"
            )
        for sample, detections in zip(samples, data_samples, strict=True):
            self.results.append((sample["sample_token"], detections.numpy()))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Write and score (sample_token, detections) of each sample of the split."""
        if self.output_dir is not None:
            return self._score(results, Path(self.output_dir))
        with tempfile.TemporaryDirectory() as folder:
            return self._score(results, Path(folder))

    def _score(self, results: list[tuple], output_dir: Path) -> dict[str, float]:
        meta = self.dataset_meta or {}
        path = write_argoverse2_results(output_dir / RESULTS_NAME, results, classes=meta["classes"])
        if self.format_only:
            print_log(f"results written to {path}", logger="current")
            return {}
        where = {"root": meta["root"], "split": meta["split"], "in_map_only": self.in_map_only}
        if any(len(found) for _, found in results):
            scores = evaluate_argoverse2(path, [token for token, _ in results], **where)
        else:  # nothing found: the worst of every score
            worst = dict(zip(SCORES, (0.0, 2.0, 1.0, float(np.pi), 0.0), strict=True))
            scores = {name: dict(worst) for name in (*CATEGORIES, "AVERAGE_METRICS")}
        present = _categories_of(Path(meta["root"]) / meta["split"], [token for token, _ in results])
        mean = {key: float(np.mean([scores[name][key] for name in present])) for key in SCORES}
        title = f"Argoverse 2 detection, {meta['split']}{simulated_note(meta)}"
        table = _table(title, scores, present, mean)
        metrics = {"mAP": mean["AP"], "CDS": mean["CDS"], "mAP_all": scores["AVERAGE_METRICS"]["AP"]}
        metrics |= {f"{name}/{key}": scores[name][key] for name in present for key in SCORES}
        write_report(output_dir, title=title, scores=metrics, table=table)
        print_log("\n" + table, logger="current")
        return metrics


def _categories_of(folder: Path, tokens: Sequence[str]) -> list[str]:
    """Return the scored categories that have a box in the samples, in their order."""
    found = set()
    for log in sorted({token.rpartition("/")[0] for token in tokens}):
        boxes = read_log(folder / log).boxes or {}
        for token in tokens:
            name, _, time = token.rpartition("/")
            if name == log and int(time) in boxes:
                found |= set(boxes[int(time)][1].tolist())
    return [name for name in CATEGORIES if name in found]


def _table(title: str, scores: dict, present: Sequence[str], mean: dict[str, float]) -> str:
    table = Table(title=title, title_justify="left")
    table.add_column("category")
    for key in SCORES:
        table.add_column(key, justify="right")
    for name in present:
        table.add_row(name, *(f"{scores[name][key]:.3f}" for key in SCORES))
    table.add_section()
    table.add_row("mean of those that occur", *(f"{mean[key]:.3f}" for key in SCORES))
    table.add_row("mean of all 26, as the server", *(f"{scores['AVERAGE_METRICS'][key]:.3f}" for key in SCORES))
    return table_text(table)
