# SPDX-License-Identifier: Apache-2.0
"""Average precision of Waymo's 3D detection, plain (AP) and weighted by heading (APH), at levels 1 and 2.

Our own code: Waymo's evaluation needs TensorFlow. It follows the definitions of the paper, with every distinct score as
a threshold and detections matched greedily by score; Waymo's program takes fewer thresholds and Hungarian matching, so
that its numbers differ somewhat.

Source: Sun et al., Scalability in Perception for Autonomous Driving: Waymo Open Dataset, CVPR 2020, section 5.1.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.logging import print_log
from rich.table import Table

from pcperc.evaluation.by_sample import MetricBySample
from pcperc.evaluation.report import table_text, write_report
from pcperc.geometry import Detections, wrap_angle
from pcperc.ops import box_iou_3d
from pcperc.registry import METRICS
from pcperc.simulated import simulated_note

MIN_OVERLAP = {"VEHICLE": 0.7, "PEDESTRIAN": 0.5, "CYCLIST": 0.5}  # intersection over union of volumes
LEVELS = (1, 2)


class Truth(NamedTuple):
    """The true boxes of a frame: (K, >= 7), (K,) labels, (K,) levels 1 or 2."""

    boxes: np.ndarray
    labels: np.ndarray
    difficulty: np.ndarray


def waymo_scores(
    truth: Sequence[Truth], found: Sequence[Detections], *, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Score the detections of some frames.

    In each frame a detection, highest score first, takes the free true box of its class that it overlaps most, if
    enough. At level 1 boxes of level 2 are neither to be found nor wrong where found; level 2 counts all. Precision is
    made to fall with recall, and AP is the area under it. For APH a hit counts 1 - |heading error| / pi, in precision
    and in recall.

    Args:
        truth: of each frame.
        found: of each frame, in the same order; numpy.
        classes: names by label, of `MIN_OVERLAP`.
    Returns:
        class to "L1/AP", "L1/APH", "L2/AP", "L2/APH" in 0..1; NaN for a class and level without a true box.
    Raises:
        ValueError: another number of frames, or a class without an overlap.
    """
    if len(truth) != len(found):
        raise ValueError(f"waymo_scores: found must be of {len(truth)} frames, got {len(found)}")
    unknown = [name for name in classes if name not in MIN_OVERLAP]
    if unknown:
        raise ValueError(f"waymo_scores: classes must be of {', '.join(MIN_OVERLAP)}, got {unknown[0]!r}")
    scores = {}
    for label, name in enumerate(classes):
        frames = [_match(t, d, label, MIN_OVERLAP[name]) for t, d in zip(truth, found, strict=True)]
        values, levels, headings = (np.concatenate([f[i] for f in frames] or [np.zeros(0)]) for i in range(3))
        own = [t.difficulty[t.labels == label] for t in truth]
        scores[name] = {}
        for level in LEVELS:
            total = int(sum((difficulty <= level).sum() for difficulty in own))
            counted = levels <= level  # a miss has level 0, a hit that of its box
            hit = (levels > 0)[counted]
            for kind, weight in (("AP", hit.astype(np.float64)), ("APH", np.where(hit, headings[counted], 0.0))):
                scores[name][f"L{level}/{kind}"] = _area(values[counted], weight, total)
    return scores


def _match(truth: Truth, found: Detections, label: int, overlap: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return score, level of the true box that was hit (0: none) and heading accuracy of each detection of a class."""
    found = found.filter(found.labels == label)
    found = found.filter(np.argsort(-found.scores, kind="stable"))
    mine = truth.labels == label
    boxes, levels = np.asarray(truth.boxes[mine], np.float64), truth.difficulty[mine]
    hit, accuracy = np.zeros(len(found), np.int64), np.zeros(len(found))
    if len(boxes) and len(found):
        own = np.ascontiguousarray(found.boxes, dtype=np.float64)
        iou = box_iou_3d(torch.from_numpy(own), torch.from_numpy(np.ascontiguousarray(boxes))).numpy()
        for row in range(len(found)):
            best = int(iou[row].argmax())
            if iou[row, best] >= overlap:
                hit[row] = levels[best]
                accuracy[row] = 1 - abs(wrap_angle(own[row, 6] - boxes[best, 6])) / np.pi
                iou[:, best] = -1
    return np.asarray(found.scores, np.float64), hit, accuracy


def _area(scores: np.ndarray, weights: np.ndarray, total: int) -> float:
    """Return the area under precision over recall, precision made to fall; equal scores are one threshold."""
    if total == 0:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(weights[order])
    last = np.append(scores[1:] != scores[:-1], True) if len(scores) else np.zeros(0, bool)
    precision = (hits / np.arange(1, len(scores) + 1))[last]
    recall = (hits / total)[last]
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


@METRICS.register_module()
class WaymoMetric(MetricBySample):
    """AP and APH of `Waymo`'s frames, over every frame of the split.

    Args:
        output_dir: receives scores.json; None keeps the numbers alone.
    """

    def __init__(self, *, output_dir: str | Path | None = None) -> None:
        super().__init__()
        self.output_dir = output_dir

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[Detections]) -> None:
        """Take the detections of a batch, one entry a sample of ``data_batch["samples"]``."""
        samples = data_batch["samples"]
        if len(samples) != len(data_samples):
            raise ValueError(f"WaymoMetric: data_samples must have {len(samples)} entries, got {len(data_samples)}")
        for sample, found in zip(samples, data_samples, strict=True):
            if "difficulty" not in sample:
                raise ValueError(f"WaymoMetric: sample {sample['sample_token']} must have boxes to be scored")
            truth = Truth(*(np.asarray(sample[key]) for key in ("boxes", "labels", "difficulty")))
            self.results.append((sample["sample_token"], truth, found.numpy()))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Score (sample_token, truth, detections) of each sample."""
        meta = self.dataset_meta or {}
        scores = waymo_scores([t for _, t, _ in results], [d for _, _, d in results], classes=meta["classes"])
        kinds = [f"L{level}/{kind}" for level in LEVELS for kind in ("AP", "APH")]
        flat = {f"{name}/{kind}": row[kind] for name, row in scores.items() for kind in kinds}
        for kind in kinds:
            values = [row[kind] for row in scores.values() if row[kind] == row[kind]]
            flat[f"m{kind}"] = float(np.mean(values)) if values else float("nan")
        title = f"Waymo detection, {meta.get('split', '')} (our own AP and APH){simulated_note(meta)}"
        table = Table(title=title, title_justify="left")
        table.add_column("class")
        for kind in kinds:
            table.add_column(kind, justify="right")
        for name in scores:
            table.add_row(name, *("-" if v != v else f"{v:.4f}" for v in scores[name].values()))
        table.add_section()
        table.add_row("mean", *(f"{flat[f'm{kind}']:.4f}" for kind in kinds))
        flat = {key: value for key, value in flat.items() if value == value}
        print_log("\n" + table_text(table), logger="current", level=logging.INFO)
        if self.output_dir is not None:
            write_report(self.output_dir, title=title, scores=flat, table=table_text(table), num_frames=len(results))
        return flat
