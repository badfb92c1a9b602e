# SPDX-License-Identifier: Apache-2.0
"""Detections on Argoverse 2: the table that its server takes, and scores by the official evaluation, av2's."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from rich.table import Table

from pcperc.evaluation.by_sample import MetricBySample
from pcperc.evaluation.nuscenes_results import check_finite_boxes
from pcperc.evaluation.report import table_text, write_report
from pcperc.geometry import Detections
from pcperc.registry import METRICS
from pcperc.simulated import simulated_note
from pcperc.tables import import_arrow, read_table, write_table

RESULTS_NAME = "detections_av2.feather"
_CUBOID = ("tx_m", "ty_m", "tz_m", "length_m", "width_m", "height_m", "qw", "qx", "qy", "qz")
_KEYS = ("log_id", "timestamp_ns", "category")
SCORES = ("AP", "ATE", "ASE", "AOE", "CDS")
NUM_BOXES = "num_boxes"
# What av2 reads of a log's map, and what its vector map must have.
_MAP_FILES = ("log_map_archive_*.json", "*_ground_height_surface____*.npy", "*___img_Sim2_city.json")
_MAP_LAYERS = ("drivable_areas", "lane_segments")


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
    arrow, categories = import_arrow(), np.array(classes, object)
    types = (arrow.string(), arrow.int64(), arrow.string(), *[arrow.float64()] * (len(_CUBOID) + 1))
    schema = arrow.schema(list(zip((*_KEYS, *_CUBOID, "score"), types, strict=True)))
    parts: list[list[np.ndarray]] = [[] for _ in types]
    for token, detections in predictions:
        found = detections.numpy()
        check_finite_boxes(found, token)
        log, _, time = token.rpartition("/")
        boxes = np.asarray(found.boxes, np.float64)
        half, zero = boxes[:, 6] / 2, np.zeros(len(boxes))
        cuboids = np.column_stack([boxes[:, :6], np.cos(half), zero, zero, np.sin(half)])
        keys = np.full(len(boxes), log, object), np.full(len(boxes), int(time)), categories[found.labels]
        for part, column in zip(parts, (*keys, *cuboids.T, found.scores), strict=True):
            part.append(column)
    columns = [np.concatenate(part) if part else [] for part in parts]
    return write_table(path, dict(zip(schema.names, columns, strict=True)), schema=schema)


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
        By category and, under ``AVERAGE_METRICS``, for their mean: AP, ATE, ASE, AOE, CDS; by category also
        ``num_boxes``, the true boxes that are scored: with a point, within 150 m and, where asked for, in the map. A
        category without one has AP 0, as the official evaluation counts it.
    Raises:
        ImportError: av2 is not installed.
        FileNotFoundError, ValueError: detections of other samples; annotations or a map that are missing or cannot be
            read.
    """
    require_av2()
    import pandas
    from av2.evaluation.detection.eval import evaluate
    from av2.evaluation.detection.utils import DetectionCfg

    found = read_table(results, [*_KEYS, *_CUBOID, "score"])
    other = sorted(
        {f"{log}/{time}" for log, time in zip(found["log_id"], found["timestamp_ns"], strict=True)} - {*tokens}
    )
    if other:
        raise ValueError(
            f"evaluate_argoverse2: {results} must hold detections of the split's samples, got other samples, "
            f"first {other[0]}"
        )
    folder = Path(root) / split
    if in_map_only:
        for log in sorted({token.rpartition("/")[0] for token in tokens}):
            check_map(folder / log)
    truth = pandas.DataFrame(_truth_columns(folder, tokens))
    config = DetectionCfg(dataset_dir=folder if in_map_only else None, eval_only_roi_instances=in_map_only)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, inside av2
        _, truth, scores = evaluate(pandas.DataFrame(found), truth, config, n_jobs=1)
    counts = truth.groupby("category")["is_evaluated"].sum()
    return {
        str(name): {**{key: float(row[key]) for key in SCORES}, NUM_BOXES: float(counts.get(name, 0))}
        for name, row in scores.iterrows()
    }


def require_av2() -> None:
    """Raise ImportError, which says what to install, where av2 is not."""
    try:
        import av2.evaluation.detection.eval  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"evaluate_argoverse2: av2 must be installed (pip install 'pcperc[argoverse2]'): {error}"
        ) from error


def check_map(log: Path) -> None:
    """Look at what av2 reads of the map of a log.

    Raises:
        FileNotFoundError: a file of it is missing.
        ValueError: the vector map cannot be read or lacks a layer.
    """
    advice = "in_map_only=False scores without maps"
    for pattern in _MAP_FILES:
        found = sorted((log / "map").glob(pattern))
        if len(found) != 1:
            raise FileNotFoundError(f"Argoverse2: {log / 'map'} must have one {pattern}, got {len(found)}; {advice}")
        if pattern == _MAP_FILES[0]:
            vector_map = found[0]
    try:
        layers = json.loads(vector_map.read_bytes())
    except ValueError as error:
        raise ValueError(f"Argoverse2: map {vector_map} cannot be read: {error}; {advice}") from error
    missing = [name for name in _MAP_LAYERS if not isinstance(layers, dict) or name not in layers]
    if missing:
        raise ValueError(f"Argoverse2: map {vector_map} must have the layer '{missing[0]}'; {advice}")


def _truth_columns(folder: Path, tokens: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the annotations of the samples as columns."""
    wanted: dict[str, list[int]] = {}
    for token in tokens:
        log, _, time = token.rpartition("/")
        wanted.setdefault(log, []).append(int(time))
    columns = ["timestamp_ns", "category", *_CUBOID, "num_interior_pts"]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("log_id", *columns)}
    for log, times in wanted.items():
        table = read_table(folder / log / "annotations.feather", columns)
        keep = np.isin(table["timestamp_ns"], times)
        parts["log_id"].append(np.full(int(keep.sum()), log, object))
        for name in columns:
            parts[name].append(table[name][keep])
    return {name: np.concatenate(part) for name, part in parts.items()}


@METRICS.register_module()
class Argoverse2Metric(MetricBySample):
    """Collects detections over all processes, writes the server's table and scores it with av2.

    Args:
        output_dir: receives detections_av2.feather and scores.json; None keeps the numbers alone.
        in_map_only: see `evaluate_argoverse2`; simulated logs have no maps.
        format_only: write the table and return no score.
    Raises:
        ImportError: av2, which scores, is not installed.
    """

    task = "object"

    def __init__(
        self, *, output_dir: str | Path | None = None, in_map_only: bool = True, format_only: bool = False
    ) -> None:
        super().__init__()
        if format_only and output_dir is None:
            raise ValueError("Argoverse2Metric: output_dir must be given with format_only, got None")
        if not format_only:
            require_av2()  # now, not after an epoch
        self.output_dir, self.in_map_only, self.format_only = output_dir, in_map_only, format_only
        self._with_map: set[str] = set()  # logs whose map has been looked at

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[Any]) -> None:
        """Take the detections of a batch, one entry a sample of ``data_batch["samples"]``.

        Raises:
            FileNotFoundError, ValueError: see `check_map`; now, not after all samples.
        """
        for sample, detections in self.pairs(data_batch, data_samples):
            log = sample["sample_token"].rpartition("/")[0]
            if self.in_map_only and not self.format_only and log not in self._with_map:
                check_map(Path(self.dataset_meta["root"]) / self.dataset_meta["split"] / log)
                self._with_map.add(log)
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
        scores = evaluate_argoverse2(path, [token for token, _ in results], **where)
        present = [name for name, row in scores.items() if row[NUM_BOXES] > 0]
        if not present:
            raise ValueError(f"Argoverse2Metric: split {meta['split']} must have true boxes that are scored, got none")
        mean = {key: float(np.mean([scores[name][key] for name in present])) for key in SCORES}
        title = f"Argoverse 2 detection, {meta['split']}{simulated_note(meta)}"
        table = _table(title, scores, present, mean)
        metrics = {"mAP": mean["AP"], "CDS": mean["CDS"], "mAP_all": scores["AVERAGE_METRICS"]["AP"]}
        metrics |= {f"{name}/{key}": scores[name][key] for name in present for key in SCORES}
        write_report(output_dir, title=title, scores=metrics, table=table)
        print_log("\n" + table, logger="current")
        return metrics


def _table(title: str, scores: dict, present: Sequence[str], mean: dict[str, float]) -> str:
    table = Table(title=title, title_justify="left")
    table.add_column("category")
    for key in SCORES:
        table.add_column(key, justify="right")
    for name in present:
        table.add_row(name, *(f"{scores[name][key]:.3f}" for key in SCORES))
    table.add_section()
    table.add_row("mean of those with true boxes", *(f"{mean[key]:.3f}" for key in SCORES))
    table.add_row("mean of all 26, as the server", *(f"{scores['AVERAGE_METRICS'][key]:.3f}" for key in SCORES))
    return table_text(table)
