# SPDX-License-Identifier: Apache-2.0
"""The MMEngine metric of classes of whole clouds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pcperc.evaluation.by_sample import MetricBySample
from pcperc.geometry import CloudClass
from pcperc.registry import METRICS


@METRICS.register_module()
class ClassificationMetric(MetricBySample):
    """``accuracy``, the part of the samples with the right category, and ``mean_class_accuracy``, the mean of that over
    the categories that occur."""

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[CloudClass]) -> None:
        """Take the predictions of a batch, one entry a sample of ``data_batch["samples"]``."""
        samples = data_batch["samples"]
        if len(samples) != len(data_samples):
            raise ValueError(
                f"ClassificationMetric: data_samples must have {len(samples)} entries, got {len(data_samples)}"
            )
        for sample, found in zip(samples, data_samples, strict=True):
            self.results.append((sample["sample_token"], int(sample["category"]), int(found.label)))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Score (sample_token, category, label) of each sample."""
        table = np.array([row[1:] for row in results], np.int64).reshape(-1, 2)
        right = table[:, 0] == table[:, 1]
        by_class = [right[table[:, 0] == category].mean() for category in np.unique(table[:, 0])]
        mean = float(np.mean(by_class)) if by_class else float("nan")
        return {"accuracy": float(right.mean()) if len(right) else float("nan"), "mean_class_accuracy": mean}
