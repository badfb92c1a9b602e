# SPDX-License-Identifier: Apache-2.0
"""MMEngine metrics of segmentation: they collect confusions over all processes and write files of predictions."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log

from pcperc.datasets.nuscenes_lidarseg import CHALLENGE_MAP
from pcperc.datasets.semantickitti_labels import label_map as label_map_of
from pcperc.evaluation.by_sample import MetricBySample
from pcperc.evaluation.segmentation import ABSENT, confusion_matrix, format_scores, scores_of
from pcperc.evaluation.segmentation_files import (
    write_lidarseg_predictions,
    write_lidarseg_submission,
    write_semantickitti_predictions,
)
from pcperc.files import write_text
from pcperc.geometry import PointLabels
from pcperc.registry import METRICS
from pcperc.simulated import simulated_note

SCORES_NAME = "segmentation_scores.json"


@METRICS.register_module()
class SegmentationMetric(MetricBySample):
    """mIoU over every recorded point.

    Args:
        output_dir: receives segmentation_scores.json, with scores and confusion, and the files that subclasses write;
            None keeps the numbers alone.
        classes: names by train id; None takes them from the ``metainfo`` of the loader's data set.
        absent: what a class counts that does not occur: "skip", "zero" or "one", see `mean_iou`.
        format_only: write files of predictions and return no score; for scans without labels.
    Raises:
        ValueError: another rule for ``absent``, or format_only without output_dir.
    """

    title = "segmentation"

    def __init__(
        self,
        *,
        output_dir: str | Path | None = None,
        classes: Sequence[str] | None = None,
        absent: str = "skip",
        format_only: bool = False,
    ) -> None:
        super().__init__()
        op = type(self).__name__
        if absent not in ABSENT:
            raise ValueError(f"{op}: absent must be one of {', '.join(ABSENT)}, got {absent!r}")
        if format_only and output_dir is None:
            raise ValueError(f"{op}: output_dir must be given with format_only, got None")
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.classes, self.absent, self.format_only = classes, absent, format_only

    def meta(self, key: str) -> Any:
        """Return what the data set says of itself."""
        if key not in (self.dataset_meta or {}):
            raise ValueError(f"{type(self).__name__}: {key} must be in the metainfo of the data set")
        return self.dataset_meta[key]

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[PointLabels]) -> None:
        """Take the predictions of a batch, one entry a sample of ``data_batch["samples"]``."""
        op = type(self).__name__
        for sample, prediction in self.pairs(data_batch, data_samples):
            token, prediction = sample["sample_token"], prediction.numpy()
            if self.output_dir is not None:
                self.write(sample, prediction)
            if self.format_only:
                self.results.append((token, None))
                continue
            truth = sample.get("recorded_labels", sample.get("point_labels"))
            if truth is None:
                raise ValueError(f"{op}: sample {token} must have point_labels to be scored, but has none")
            if len(truth) != len(prediction):
                raise ValueError(f"{op}: sample {token} must have {len(truth)} predictions, got {len(prediction)}")
            truth = torch.as_tensor(truth).cpu().numpy()
            confusion = confusion_matrix(truth, prediction.labels, num_classes=len(self._classes()))
            self.results.append((token, confusion))

    def write(self, sample: dict[str, Any], prediction: PointLabels) -> None:
        """Write the prediction of a sample in the layout of its data set; here, nothing."""

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Score (sample_token, confusion) of each sample."""
        if self.format_only:
            print_log(f"predictions of {len(results)} scans written to {self.output_dir}", logger="current")
            return {}
        classes = self._classes()
        total = sum((confusion for _, confusion in results), np.zeros((len(classes), len(classes) + 1), np.int64))
        scores = scores_of(total, classes, absent=self.absent)
        split = str((self.dataset_meta or {}).get("split", ""))
        title = f"{self.title} {split}".strip() + simulated_note(self.dataset_meta)
        text = format_scores(total, classes, title=title, absent=self.absent)
        print_log("\n" + text, logger="current", level=logging.INFO)
        if self.output_dir is not None:
            summary = {"title": title, "classes": list(classes), "absent": self.absent, "num_samples": len(results)}
            summary |= {"scores": scores, "confusion": total.tolist()}
            write_text(self.output_dir / SCORES_NAME, json.dumps(summary, indent=1))
        return scores

    def _classes(self) -> Sequence[str]:
        return self.meta("classes") if self.classes is None else self.classes


@METRICS.register_module()
class SemanticKITTIMetric(SegmentationMetric):
    """mIoU over the 19 classes of SemanticKITTI, and .label files in the layout that its server takes.

    Arguments: those of `SegmentationMetric`; ``output_dir`` also receives sequences/NN/predictions/*.label.
    """

    title = "SemanticKITTI segmentation"

    def write(self, sample: dict[str, Any], prediction: PointLabels) -> None:
        label_map = label_map_of((self.dataset_meta or {}).get("label_map", "official"))
        write_semantickitti_predictions(self.output_dir, sample["sample_token"], prediction, label_map=label_map)


@METRICS.register_module()
class LidarSegMetric(SegmentationMetric):
    """mIoU over the 16 classes of nuScenes-lidarseg, and .bin files in the layout that its server takes.

    Arguments: those of `SegmentationMetric`; ``output_dir`` also receives lidarseg/<split>/*_lidarseg.bin and
    <split>/submission.json.
    """

    title = "nuScenes-lidarseg segmentation"

    def write(self, sample: dict[str, Any], prediction: PointLabels) -> None:
        token, split = sample["lidar_token"], self.meta("split")
        write_lidarseg_predictions(self.output_dir, token, prediction, split=split, label_map=CHALLENGE_MAP)

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        if self.output_dir is not None:
            write_lidarseg_submission(self.output_dir, split=self.meta("split"))
        return super().compute_metrics(results)
