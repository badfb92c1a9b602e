# SPDX-License-Identifier: Apache-2.0
"""What the metrics share: one entry for each sample, over all processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from mmengine.evaluator import BaseMetric


class MetricBySample(BaseMetric):
    """An MMEngine metric whose ``results`` are tuples that begin with the token of their sample.

    A subclass names the head whose results it scores; of a model with several heads it takes those.
    """

    default_prefix = ""  # the metrics are known by their names without one
    task = ""

    def pairs(self, data_batch: dict[str, Any], results: Sequence[Any]) -> list[tuple[dict, Any]]:
        """Return each sample of a batch with what the model says of it.

        Raises:
            ValueError: not a result for each sample, or results by task without this metric's.
        """
        op, samples = type(self).__name__, data_batch["samples"]
        if len(samples) != len(results):
            raise ValueError(f"{op}: data_samples must have {len(samples)} entries, got {len(results)}")
        if results and isinstance(results[0], dict):
            if self.task not in results[0]:
                raise ValueError(f"{op}: the model must have a head '{self.task}', it has {sorted(results[0])}")
            results = [result[self.task] for result in results]
        return list(zip(samples, results, strict=True))

    def evaluate(self, size: int) -> dict[str, float]:
        """Score what all processes collected; samples that a sampler repeated to fill up the last batch count once."""
        gathered = all_gather_object(list(self.results))
        self.results.clear()
        outcome: list = [None]
        if is_main_process():
            by_token = {token: (token, *rest) for part in gathered for token, *rest in part}
            outcome = [self.compute_metrics(list(by_token.values()))]
        broadcast_object_list(outcome)
        return outcome[0]
