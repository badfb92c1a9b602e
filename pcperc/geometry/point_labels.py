# SPDX-License-Identifier: Apache-2.0
"""What a segmentation network says about one scan."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED = 255  # the train id of a point that has no class: not scored where it is the truth


@dataclass(frozen=True)
class PointLabels:
    """A class for every recorded point of a scan.

    Attributes:
        labels: (N,) int64, index into the class names of the data set; `IGNORED` (255) where nothing is said, which is
            the case of points that a transform left out.
        scores: (N,) floating, in [0, 1]: the probability of that class; 0 where nothing is said.
    Raises:
        ValueError: shapes or lengths do not fit, or labels are not integers.
    """

    labels: Tensor
    scores: Tensor

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.scores.shape != self.labels.shape:
            raise ValueError(
                "PointLabels: labels and scores must be (N,), "
                f"got {tuple(self.labels.shape)} and {tuple(self.scores.shape)}"
            )
        if isinstance(self.labels, Tensor) and self.labels.is_floating_point():
            raise ValueError(f"PointLabels: labels must be integers, got {self.labels.dtype}")

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def empty(cls) -> PointLabels:
        """What is said of a scan without points."""
        return cls(torch.zeros(0, dtype=torch.int64), torch.zeros(0))

    def to(self, device) -> PointLabels:
        """Return a copy on ``device`` (tensors already there are shared)."""
        return PointLabels(self.labels.to(device), self.scores.to(device))

    def numpy(self) -> PointLabels:
        """Return the same as numpy arrays, detached and on the CPU; bfloat16 becomes float32."""
        if not isinstance(self.labels, Tensor):
            return self
        labels, scores = self.labels.detach().cpu(), self.scores.detach().cpu()
        return PointLabels(labels.numpy(), (scores.float() if scores.dtype is torch.bfloat16 else scores).numpy())
