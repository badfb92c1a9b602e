# SPDX-License-Identifier: Apache-2.0
"""Official nuScenes detection scores: the devkit's DetectionEval behind a function and behind an MMEngine metric."""

from __future__ import annotations

import io
import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from rich.console import Console
from rich.table import Table

from pcperc.evaluation.by_sample import MetricBySample
from pcperc.evaluation.nuscenes_results import read_results, write_results
from pcperc.files import write_text
from pcperc.geometry import Detections
from pcperc.registry import METRICS
from pcperc.simulated import simulated_note

RESULTS_NAME = "results_nusc.json"
ERRORS = {"trans_err": "ATE", "scale_err": "ASE", "orient_err": "AOE", "vel_err": "AVE", "attr_err": "AAE"}


def evaluate_results(
    results: str | Path, *, root: str | Path, version: str, split: str, output_dir: str | Path, plots: bool = False
) -> dict:
    """Score a results file with the official configuration (detection_cvpr_2019).

    Args:
        results: results_nusc.json with every sample of the split.
        root, version: the data set.
        split: an official split, or one of the version's splits.json.
        output_dir: receives metrics_summary.json and metrics_details.json, and a folder of plots where asked for.
        plots: draw precision-recall curves.
    Returns:
        The devkit's summary: mean_ap, nd_score, tp_errors, mean_dist_aps, label_tp_errors, ...
    Raises:
        ImportError: nuscenes-devkit is not installed.
        ValueError: the file lacks samples of the split or has others, or the split has no annotation.
    """
    try:
        from nuscenes import NuScenes
        from nuscenes.eval.common.config import config_factory
        from nuscenes.eval.detection.evaluate import DetectionEval
    except ImportError as error:
        raise ImportError(f"evaluate_results: nuscenes-devkit must be installed: {error}") from error
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    nusc = NuScenes(version=version, dataroot=str(root), verbose=False)
    rows = read_results(results)
    samples_of_split(nusc, split, version=version, rows=rows, results=results)
    config = config_factory("detection_cvpr_2019")
    if not any(rows.values()):  # the devkit cannot tell the kind of boxes then
        summary, details = _nothing_found(config), {}
    else:
        with tempfile.TemporaryDirectory() as unwanted:  # the devkit makes its folders, wanted or not
            folder = str(output_dir) if plots else unwanted
            evaluation = DetectionEval(nusc, config, str(results), split, folder, verbose=False)
            metrics, data = evaluation.evaluate()
            if plots:
                evaluation.render(metrics, data)
        summary, details = metrics.serialize(), data.serialize()
    summary["meta"] = {"version": version, "split": split}
    write_text(output_dir / "metrics_summary.json", json.dumps(summary, indent=2))
    write_text(output_dir / "metrics_details.json", json.dumps(details))
    return summary


def samples_of_split(
    nusc: Any, split: str, *, version: str, rows: dict[str, list[dict]], results: str | Path
) -> dict[str, dict]:
    """Return the samples of a split by token.

    Raises:
        ValueError: ``rows``, read from the file ``results``, lacks samples of the split or has others, or the split
            has no annotation.
    """
    from nuscenes.utils.splits import get_scenes_of_split

    scenes = set(get_scenes_of_split(split, nusc))
    samples = {s["token"]: s for s in nusc.sample if nusc.get("scene", s["scene_token"])["name"] in scenes}
    for what, tokens in (("lacks", samples.keys() - rows.keys()), ("has in excess", rows.keys() - samples.keys())):
        if tokens:
            few = ", ".join(sorted(tokens)[:3])
            raise ValueError(
                f"evaluate_results: {results} must hold exactly the samples of {split}, but {what} {len(tokens)}: {few}"
            )
    if not any(sample["anns"] for sample in samples.values()):
        raise ValueError(f"evaluate_results: split {split} of {version} must have annotations, but has none")
    return samples


def _nothing_found(config) -> dict:
    """Return the summary of a detector that finds nothing: every precision 0, every error 1."""
    errors = dict.fromkeys(ERRORS, 1.0)
    return {
        "mean_ap": 0.0,
        "nd_score": 0.0,
        "tp_errors": errors,
        "mean_dist_aps": dict.fromkeys(config.class_names, 0.0),
        "label_tp_errors": {name: dict(errors) for name in config.class_names},
    }


def flat_metrics(summary: dict) -> dict[str, float]:
    """Return ``{"mAP", "NDS", "mATE", ..., "car/AP", "car/ATE", ...}`` ; what is undefined (NaN) is left out."""
    metrics = {"mAP": summary["mean_ap"], "NDS": summary["nd_score"]}
    metrics.update({f"m{short}": summary["tp_errors"][key] for key, short in ERRORS.items()})
    for name, precision in summary["mean_dist_aps"].items():
        metrics[f"{name}/AP"] = precision
        metrics.update({f"{name}/{short}": summary["label_tp_errors"][name][key] for key, short in ERRORS.items()})
    return {key: float(value) for key, value in metrics.items() if value == value}


def format_summary(summary: dict, *, title: str) -> str:
    """Return the scores as a table in plain text."""
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for name in ("AP", *ERRORS.values()):
        table.add_column(name, justify="right")
    for name, precision in summary["mean_dist_aps"].items():
        errors = [summary["label_tp_errors"][name][key] for key in ERRORS]
        cells = ["-" if error is None or error != error else f"{error:.3f}" for error in errors]
        table.add_row(name, f"{precision:.3f}", *cells)
    table.add_section()
    means = [f"{summary['tp_errors'][key]:.3f}" for key in ERRORS]
    table.add_row("mean", f"{summary['mean_ap']:.3f}", *means)
    text = io.StringIO()
    console = Console(file=text, width=100)
    console.print(table)
    console.print(f"mAP: {summary['mean_ap']:.4f}   NDS: {summary['nd_score']:.4f}", highlight=False)
    return text.getvalue()


@METRICS.register_module()
class NuScenesMetric(MetricBySample):
    """Collects detections over all processes, writes results_nusc.json and scores it with the devkit.

    Args:
        output_dir: receives the results file and the scores; None uses a temporary folder and keeps the numbers alone.
        root, version, split, classes: of the data set; None takes them from the ``metainfo`` of the loader's data set.
        modalities: what the detector looks at, for the header of the results file.
        format_only: write the results file and return no score (the test split has no annotations).
        plots: draw precision-recall curves.
    """

    task = "object"

    def __init__(
        self,
        *,
        output_dir: str | Path | None = None,
        root: str | Path | None = None,
        version: str | None = None,
        split: str | None = None,
        classes: Sequence[str] | None = None,
        modalities: Sequence[str] = ("lidar", "camera"),
        format_only: bool = False,
        plots: bool = False,
    ) -> None:
        super().__init__()
        if format_only and output_dir is None:
            raise ValueError(f"{type(self).__name__}: output_dir must be given with format_only, got None")
        self.output_dir = output_dir
        self.given = {"root": root, "version": version, "split": split, "classes": classes}
        self.modalities, self.format_only, self.plots = tuple(modalities), format_only, plots

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[Detections]) -> None:
        """Take the detections of a batch, one entry a sample of ``data_batch["samples"]``."""
        for sample, detections in self.pairs(data_batch, data_samples):
            lidar2global = sample["ego2global"] @ sample["lidar2ego"]
            self.results.append((sample["sample_token"], detections.numpy(), lidar2global))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Write and score (sample_token, detections, lidar2global) of each sample of the split."""
        if self.output_dir is not None:
            return self._score(results, Path(self.output_dir))
        with tempfile.TemporaryDirectory() as folder:
            return self._score(results, Path(folder))

    def _data_meta(self) -> dict[str, Any]:
        """Return root, version, split and classes."""
        meta = {**(self.dataset_meta or {}), **{key: value for key, value in self.given.items() if value is not None}}
        missing = [key for key in self.given if key not in meta]
        if missing:
            raise ValueError(
                f"{type(self).__name__}: {missing[0]} must be given, or be in the metainfo of the data set"
            )
        return meta

    def write_detections(self, output_dir: Path, results: list[tuple], meta: dict[str, Any]) -> Path:
        """Write results_nusc.json of (sample_token, detections, lidar2global)."""
        return write_results(output_dir / RESULTS_NAME, results, classes=meta["classes"], modalities=self.modalities)

    def _score(self, results: list[tuple], output_dir: Path) -> dict[str, float]:
        meta = self._data_meta()
        path = self.write_detections(output_dir, results, meta)
        if self.format_only:
            print_log(f"results written to {path}", logger="current")
            return {}
        where = {key: meta[key] for key in ("root", "version", "split")}
        summary = evaluate_results(path, **where, output_dir=output_dir, plots=self.plots)
        title = f"nuScenes detection, {meta['version']} {meta['split']}{simulated_note(meta)}"
        print_log("\n" + format_summary(summary, title=title), logger="current", level=logging.INFO)
        return flat_metrics(summary)
