# SPDX-License-Identifier: Apache-2.0
"""What is printed of a test: the table of each metric, and where its files are."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcperc.engine.messages import say
from pcperc.evaluation import (
    Argoverse2Metric,
    CalorimeterMetric,
    KITTIMetric,
    LeftOut,
    MapMetric,
    NuScenesMetric,
    NuScenesTrackingMetric,
    S3DISMetric,
    SegmentationMetric,
    ShapeNetPartMetric,
    WaymoMetric,
    cluster_metric,
    format_cluster_scores,
    format_scores,
    format_summary,
    format_tracking_summary,
    read_cluster_table,
)
from pcperc.evaluation.nuscenes_tracking import TRACKING_SUMMARY_NAME
from pcperc.evaluation.nuscenes_tracking_results import TRACKING_RESULTS_NAME
from pcperc.evaluation.report import REPORT_NAME
from pcperc.evaluation.room_metrics import SCANNET_FOLDER
from pcperc.evaluation.segmentation_metrics import SCORES_NAME
from pcperc.visualization.cluster_curves import draw_cluster_curves

CURVES_NAME = "cluster_curves.png"
OVERALL = ("efficiency", "fake_rate")  # of clusters, as `CalorimeterMetric` calls them


@dataclass(frozen=True)
class Scored:
    """What a metric has scored."""

    title: str  # what was scored on what
    evaluator: dict  # the metric's entry in the config
    work_dir: Path  # has the metric's files
    metrics: dict[str, float]  # of all metrics of the test


def print_summary(metric: type, scored: Scored) -> None:
    """Print the table of a metric, or the numbers of an unknown one a line each."""
    families = (_OF_FAMILIES[kind] for kind in metric.__mro__ if kind in _OF_FAMILIES)
    (_OF_KINDS.get(metric) or next(families, _print_numbers))(scored)


def _print_numbers(scored: Scored) -> None:
    say("\n".join(f"{name}: {value:.4f}" for name, value in scored.metrics.items()))


def _print_report(scored: Scored) -> None:
    say(f"\n{scored.title}")
    if scored.metrics:
        say(json.loads((scored.work_dir / REPORT_NAME).read_text())["table"])
    say(f"scores and results: {scored.work_dir}")


def _print_segmentation(scored: Scored) -> None:
    _print_classes(scored)
    say(f"scores and predictions of every point: {scored.work_dir}")


def _print_rooms(scored: Scored) -> None:
    """Print the accuracy too, by which rooms are compared; of S3DIS, which has no server, nothing but scores is
    written."""
    _print_classes(scored)
    if "accuracy" in scored.metrics:
        say(f"accuracy {scored.metrics['accuracy']:.3f}: the share of all points that were given their class")
    has_files = (scored.work_dir / SCANNET_FOLDER).is_dir()
    say(f"scores{f' and {SCANNET_FOLDER}/*.txt' if has_files else ''}: {scored.work_dir}")


def _print_classes(scored: Scored) -> None:
    say(f"\n{scored.title}")
    if not scored.evaluator.get("format_only"):
        found = json.loads((scored.work_dir / SCORES_NAME).read_text())
        say(format_scores(np.array(found["confusion"]), found["classes"], title=found["title"], absent=found["absent"]))


def _print_detection(scored: Scored) -> None:
    summary = json.loads((scored.work_dir / "metrics_summary.json").read_text())
    say(f"\n{scored.title}")
    say(format_summary(summary, title="nuScenes detection"))
    say(f"results: {scored.work_dir / 'results_nusc.json'}")


def _print_tracking(scored: Scored) -> None:
    summary = json.loads((scored.work_dir / TRACKING_SUMMARY_NAME).read_text())
    say(f"\n{scored.title}")
    title = f"nuScenes tracking by {scored.evaluator.get('tracker', 'kalman')}"
    say(format_tracking_summary(summary, title=title))
    say(f"results: {scored.work_dir / TRACKING_RESULTS_NAME}")


def _print_clusters(scored: Scored) -> None:
    """Print the scores and draw the curves."""
    found = json.loads((scored.work_dir / cluster_metric.SCORES_NAME).read_text())
    say(f"\n{scored.title}")
    say(format_cluster_scores(found["scores"], found["classes"], title=found["title"]))
    rates = (f"{name.replace('_', ' ')} {found['scores'].get(name, float('nan')):.3f}" for name in OVERALL)
    say(f"{', '.join(rates)} of all showers and clusters; a match has the same class and an IoU by energy > 0.5")
    for against, (name, unit) in {"energy": ("energy", "GeV"), "nearest": ("distance", "cm")}.items():
        bins, counts = found["curves"][against]["edges"], LeftOut(**found["curves"][against]["left_out"])
        what = f"{counts.of_showers()} and {counts.of_clusters()}"
        say(f"curves against {name}, {bins[0]:g} to {bins[-1]:g} {unit}, leave out {what}")
    edges = {"energy_edges": cluster_metric.ENERGY_EDGES, "distance_edges": cluster_metric.DISTANCE_EDGES}
    table = read_cluster_table(scored.work_dir / cluster_metric.TABLE_NAME)
    kinds = table.by_class(found["classes"])
    tables = {"all": table, **(kinds if len(kinds) > 1 else {})}
    try:
        title = f"{found['title']}, matched by energy"
        draw_cluster_curves(scored.work_dir / CURVES_NAME, tables, title=title, **edges)
    except ImportError as error:
        say(f"{CURVES_NAME} is not drawn: {error} (pip install matplotlib)")
    say(f"scores, showers and curves: {scored.work_dir}")


# By metric, for its subclasses too: these write one form of file, whatever is scored.
_OF_FAMILIES: dict[type, Callable[[Scored], None]] = {
    SegmentationMetric: _print_segmentation,
    Argoverse2Metric: _print_report,
    WaymoMetric: _print_report,
    ShapeNetPartMetric: _print_report,
    KITTIMetric: _print_report,
    MapMetric: _print_report,
}
# By the metric itself: a subclass may write files of its own.
_OF_KINDS: dict[type, Callable[[Scored], None]] = {
    CalorimeterMetric: _print_clusters,
    NuScenesTrackingMetric: _print_tracking,
    NuScenesMetric: _print_detection,
    S3DISMetric: _print_rooms,
}
