# SPDX-License-Identifier: Apache-2.0
"""The MMEngine metric of parts of shapes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

from pcperc.datasets.shapenet_part_labels import CATEGORIES, PARTS
from pcperc.evaluation.by_sample import MetricBySample
from pcperc.evaluation.parts import format_part_scores, part_scores, shape_iou
from pcperc.evaluation.report import write_report
from pcperc.geometry import PointLabels
from pcperc.registry import METRICS
from pcperc.simulated import simulated_note


@METRICS.register_module()
class ShapeNetPartMetric(MetricBySample):
    """Instance and class mIoU over shapes of `ShapeNetPart`.

    Args:
        output_dir: receives scores.json; None keeps the numbers alone.
    """

    title = "ShapeNet-Part"

    def __init__(self, *, output_dir: str | Path | None = None) -> None:
        super().__init__()
        self.output_dir = None if output_dir is None else Path(output_dir)

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[PointLabels]) -> None:
        """Take the predictions of a batch, one entry a sample of ``data_batch["samples"]``."""
        samples = data_batch["samples"]
        if len(samples) != len(data_samples):
            got = len(data_samples)
            raise ValueError(f"ShapeNetPartMetric: data_samples must have {len(samples)} entries, got {got}")
        for sample, prediction in zip(samples, data_samples, strict=True):
            token, truth = sample["sample_token"], sample.get("recorded_labels", sample.get("point_labels"))
            if truth is None:
                raise ValueError(f"ShapeNetPartMetric: sample {token} must have point_labels to be scored, has none")
            category = CATEGORIES[sample["category"]]
            truth, predicted = torch.as_tensor(truth).cpu().numpy(), prediction.numpy().labels
            if len(truth) != len(predicted):
                got = len(predicted)
                raise ValueError(f"ShapeNetPartMetric: sample {token} must have {len(truth)} predictions, got {got}")
            self.results.append((token, category, shape_iou(truth, predicted, parts=PARTS[category])))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Score (sample_token, category, IoU) of each sample."""
        ious: dict[str, list[float]] = {category: [] for category in CATEGORIES}
        for _, category, iou in results:
            ious[category].append(iou)
        scores = part_scores(ious)
        split = str((self.dataset_meta or {}).get("split", ""))
        title = f"{self.title} {split}".strip() + simulated_note(self.dataset_meta)
        table = format_part_scores(ious, title=title)
        print_log("\n" + table, logger="current", level=logging.INFO)
        if self.output_dir is not None:
            write_report(self.output_dir, title=title, scores=scores, table=table, num_samples=len(results))
        return scores
