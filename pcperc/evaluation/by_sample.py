# SPDX-License-Identifier: Apache-2.0
"""What the metrics share: one entry for each sample, over all processes."""

from __future__ import annotations

from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from mmengine.evaluator import BaseMetric


class MetricBySample(BaseMetric):
    """An MMEngine metric whose ``results`` are tuples that begin with the token of their sample."""

    default_prefix = ""  # the metrics are known by their names without one

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
