# SPDX-License-Identifier: Apache-2.0
"""What a tracker says about one sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pcperc.geometry.detections import Detections


@dataclass(frozen=True)
class Tracks(Detections):
    """Detections that carry the number of the object they belong to.

    Attributes:
        ids: (K,) int64, positive; the same object has the same number in every sample of a scene, and no two objects of
            a sample share one.
    Raises:
        ValueError: as `Detections`; ids of another length or dtype, or one that occurs twice.
    """

    ids: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        if tuple(self.ids.shape) != (len(self),):
            raise ValueError(f"Tracks: ids must be ({len(self)},), got {tuple(self.ids.shape)}")
        values = self.ids.tolist()
        if not all(isinstance(value, int) for value in values) or len(set(values)) != len(values):
            raise ValueError(f"Tracks: ids must be different integers, got {values}")

    @classmethod
    def empty(cls) -> Tracks:
        """Tracks of a sample in which nothing is followed."""
        none = Detections.empty()
        return cls(none.boxes, none.scores, none.labels, torch.zeros(0, dtype=torch.int64))

    def to(self, device) -> Tracks:
        moved = super().to(device)
        return Tracks(moved.boxes, moved.scores, moved.labels, self.ids.to(device))

    def numpy(self) -> Tracks:
        if not isinstance(self.boxes, Tensor):
            return self
        found = super().numpy()
        return Tracks(found.boxes, found.scores, found.labels, self.ids.detach().cpu().numpy())

    def filter(self, mask) -> Tracks:
        kept = super().filter(mask)
        return Tracks(kept.boxes, kept.scores, kept.labels, self.ids[mask])
