# SPDX-License-Identifier: Apache-2.0
"""What a detector says about one sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """Boxes of one sample with their scores and classes.

    Attributes:
        boxes: (K, 9) floating, recorded LiDAR frame, metres: ``[x, y, z, l, w, h, yaw, vx, vy]``.
        scores: (K,) floating, in [0, 1]; a detector gives them highest first.
        labels: (K,) int64, index into the class names of the data set.
    Raises:
        ValueError: shapes or lengths do not fit, or labels are not integers.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 9:
            raise ValueError(f"Detections: boxes must be (K, 9), got {tuple(self.boxes.shape)}")
        count = self.boxes.shape[0]  # not len(): while a program is traced this may be a symbol
        for name in ("scores", "labels"):
            if tuple(getattr(self, name).shape) != (count,):
                raise ValueError(f"Detections: {name} must be ({count},), got {tuple(getattr(self, name).shape)}")
        if isinstance(self.labels, Tensor) and self.labels.is_floating_point():
            raise ValueError(f"Detections: labels must be integers, got {self.labels.dtype}")

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def empty(cls) -> Detections:
        """Detections of a sample in which nothing was found."""
        return cls(torch.zeros(0, 9), torch.zeros(0), torch.zeros(0, dtype=torch.int64))

    def to(self, device) -> Detections:
        """Return a copy on ``device`` (tensors already there are shared)."""
        return Detections(self.boxes.to(device), self.scores.to(device), self.labels.to(device))

    def numpy(self) -> Detections:
        """Return the same detections as numpy arrays, detached and on the CPU; bfloat16 becomes float32."""
        if not isinstance(self.boxes, Tensor):
            return self
        parts = [t.detach().cpu() for t in (self.boxes, self.scores, self.labels)]
        return Detections(*[(t.float() if t.dtype is torch.bfloat16 else t).numpy() for t in parts])

    def filter(self, mask) -> Detections:
        """Keep the rows that ``mask`` names: (K,) bool, or integer indices in the wanted order."""
        return Detections(self.boxes[mask], self.scores[mask], self.labels[mask])
