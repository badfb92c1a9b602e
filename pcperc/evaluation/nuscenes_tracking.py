# SPDX-License-Identifier: Apache-2.0
"""Tracks through scenes, and their official scores: the devkit's TrackingEval."""

from __future__ import annotations

import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.logging import print_log
from rich.console import Console
from rich.table import Table

from pcperc.evaluation.nuscenes import NuScenesMetric, samples_of_split
from pcperc.evaluation.nuscenes_tracking_results import (
    TRACKING_CLASSES,
    TRACKING_RESULTS_NAME,
    read_tracking_results,
    write_tracking_results,
)
from pcperc.files import write_text
from pcperc.geometry import Detections, Tracks, transform_boxes
from pcperc.registry import METRICS
from pcperc.simulated import simulated_note
from pcperc.tracking import TRACKERS, Tracker

TRACKING_SUMMARY_NAME = "tracking_summary.json"
# Name in the devkit's summary, ours, decimals.
_SHOWN = (
    ("amota", "AMOTA", 3), ("amotp", "AMOTP", 3), ("recall", "recall", 3), ("mota", "MOTA", 3), ("ids", "IDS", 0),
    ("frag", "FRAG", 0), ("fp", "FP", 0), ("fn", "FN", 0),
)  # fmt: skip


class SceneSample(NamedTuple):
    """What a tracker is told of a sample."""

    token: str
    scene_name: str
    timestamp: float  # seconds
    detections: Detections  # in the recorded LiDAR frame
    lidar2global: np.ndarray  # (4, 4)


def track_scenes(tracker: Tracker, samples: Iterable[SceneSample]) -> dict[str, Tracks]:
    """Follow the objects of each scene.

    Args:
        tracker: reset at the start of every scene.
        samples: of any number of scenes, in any order; those of a scene are taken in the order of their times.
    Returns:
        Tracks of numpy arrays in the world frame by sample token.
    Raises:
        ValueError: as `Tracker.step`: two samples of a scene at one time, boxes that are not finite; the message names
            the sample.
    """
    scenes: dict[str, list[SceneSample]] = {}
    for sample in samples:
        scenes.setdefault(sample.scene_name, []).append(sample)
    tracks = {}
    for name in sorted(scenes):
        tracker.reset()
        for sample in sorted(scenes[name], key=lambda sample: sample.timestamp):
            found = sample.detections.numpy()
            boxes = transform_boxes(np.asarray(found.boxes, np.float64), sample.lidar2global, upright="target")
            try:
                tracks[sample.token] = tracker.step(Detections(boxes, found.scores, found.labels), sample.timestamp)
            except ValueError as error:
                raise ValueError(f"scene {name}, sample {sample.token}: {error}") from error
    return tracks


def require_tracking_devkit() -> None:
    """Raise ImportError where what scores tracks is not installed: before a pass over the data, not behind it."""
    try:
        import motmetrics  # noqa: F401  (the devkit would raise unittest.SkipTest without it)
        import nuscenes.eval.tracking.evaluate  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"evaluate_tracking: nuscenes-devkit and motmetrics must be installed "
            f"(pip install motmetrics==1.4.0): {error}"
        ) from error


def evaluate_tracking(
    results: str | Path, *, root: str | Path, version: str, split: str, output_dir: str | Path
) -> dict:
    """Score a tracking results file with the official configuration (tracking_nips_2019).

    Args:
        results: a file with every sample of the split.
        root, version: the data set.
        split: an official split, or one of the version's splits.json.
        output_dir: receives tracking_summary.json.
    Returns:
        The devkit's summary: amota, amotp, recall, mota, ids, ..., and label_metrics by metric and class. Classes
        without a true box are NaN and take no part in the means.
    Raises:
        ImportError: nuscenes-devkit or its motmetrics is not installed.
        ValueError: the file lacks samples of the split or has others, or the split has no annotation.
    """
    require_tracking_devkit()
    from nuscenes import NuScenes
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.tracking.evaluate import TrackingEval

    rows = read_tracking_results(results)
    nusc = NuScenes(version=version, dataroot=str(root), verbose=False)
    samples_of_split(nusc, split, version=version, rows=rows, results=results)
    config = config_factory("tracking_nips_2019")
    if not any(rows.values()):  # the devkit cannot tell the kind of boxes then
        summary = _nothing_found()
    else:
        with tempfile.TemporaryDirectory() as unwanted, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas and of means of nothing, inside the devkit
            evaluation = TrackingEval(config, str(results), split, unwanted, version, str(root), verbose=False)
            summary = evaluation.evaluate()[0].serialize()
    summary["meta"] = {"version": version, "split": split}
    write_text(Path(output_dir) / TRACKING_SUMMARY_NAME, json.dumps(summary, indent=2))
    return summary


def _nothing_found() -> dict:
    """Return the summary of a tracker that finds nothing; what the devkit then counts, such as misses, is unknown."""
    values = {"amota": 0.0, "amotp": 2.0, "recall": 0.0, "mota": 0.0, "motp": 2.0, "motar": 0.0, "ids": 0.0}
    return {**values, "label_metrics": {key: dict.fromkeys(TRACKING_CLASSES, v) for key, v in values.items()}}


def flat_tracking_metrics(summary: dict) -> dict[str, float]:
    """Return ``{"AMOTA", "AMOTP", ..., "car/AMOTA", ...}``; what is undefined (NaN) is left out."""
    metrics = {}
    for key, short, _ in _SHOWN:
        metrics[short] = summary.get(key, float("nan"))
        for name, value in summary["label_metrics"].get(key, {}).items():
            metrics[f"{name}/{short}"] = value
    return {key: float(value) for key, value in metrics.items() if value == value}


def format_tracking_summary(summary: dict, *, title: str) -> str:
    """Return the scores as a table in plain text."""
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for _, short, _ in _SHOWN:
        table.add_column(short, justify="right")

    def cells(values: dict[str, float]) -> list[str]:
        shown = ((values.get(key, float("nan")), digits) for key, _, digits in _SHOWN)
        return ["-" if value != value else f"{value:.{digits}f}" for value, digits in shown]

    labels = summary["label_metrics"]
    for name in TRACKING_CLASSES:
        table.add_row(name, *cells({key: values.get(name, float("nan")) for key, values in labels.items()}))
    table.add_section()
    table.add_row("mean, or sum of counts", *cells({key: value for key, value in summary.items() if key in labels}))
    text = io.StringIO()
    console = Console(file=text, width=110)
    console.print(table)
    console.print(f"AMOTA: {summary['amota']:.4f}   AMOTP: {summary['amotp']:.4f} m", highlight=False)
    return text.getvalue()


@METRICS.register_module()
class NuScenesTrackingMetric(NuScenesMetric):
    """Collects detections over all processes, follows them through each scene, and scores the tracks with the devkit.

    Args:
        tracker: one of `pcperc.tracking.TRACKERS`.
        tracker_options: arguments of its constructor.
        output_dir and all others: those of `NuScenesMetric`; output_dir receives results_nusc.json,
            results_tracking.json and tracking_summary.json.
    Raises:
        ValueError: another tracker.
        ImportError: nuscenes-devkit or its motmetrics is not installed, unless results are only written.
    """

    def __init__(self, *, tracker: str = "kalman", tracker_options: dict | None = None, **options: Any) -> None:
        super().__init__(**options)
        if tracker not in TRACKERS:
            raise ValueError(f"NuScenesTrackingMetric: tracker must be one of {', '.join(TRACKERS)}, got {tracker!r}")
        self.tracker, self.tracker_options = tracker, dict(tracker_options or {})
        if not self.format_only:
            require_tracking_devkit()

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[Detections]) -> None:
        before = len(self.results)
        super().process(data_batch, data_samples)
        for index, sample in enumerate(data_batch["samples"], start=before):
            self.results[index] += (sample["scene_name"], sample["timestamp"])

    def _score(self, results: list[tuple], output_dir: Path) -> dict[str, float]:
        meta = self._data_meta()
        detections = [(token, found, lidar2global) for token, found, lidar2global, _, _ in results]
        self.write_detections(output_dir, detections, meta)
        samples = [SceneSample(token, name, time, found, pose) for token, found, pose, name, time in results]
        tracks = track_scenes(TRACKERS[self.tracker](meta["classes"], **self.tracker_options), samples)
        path = output_dir / TRACKING_RESULTS_NAME
        write_tracking_results(path, tracks, classes=meta["classes"], modalities=self.modalities)
        if self.format_only:
            print_log(f"results written to {path}", logger="current")
            return {}
        where = {key: meta[key] for key in ("root", "version", "split")}
        summary = evaluate_tracking(path, **where, output_dir=output_dir)
        title = f"nuScenes tracking by {self.tracker}, {meta['version']} {meta['split']}{simulated_note(meta)}"
        print_log("\n" + format_tracking_summary(summary, title=title), logger="current", level=logging.INFO)
        return flat_tracking_metrics(summary)
