# SPDX-License-Identifier: Apache-2.0
"""What a network says about the hits of one calorimeter event."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pcperc.geometry.calorimeter import NO_INSTANCE, NOISE_CLASS


@dataclass(frozen=True)
class HitClusters:
    """A cluster and its class for every hit of an event.

    Attributes:
        labels: (N,) int64, index into `HIT_CLASSES`; `NOISE_CLASS` (0) where the hit is in no cluster.
        instances: (N,) int64, the cluster of the hit: 0 for the one with the most energy, 1 for the next;
            `NO_INSTANCE` (-1) for none.
        scores: (N,) floating, the network's probability of the class of the hit's cluster, or of noise.
    Raises:
        ValueError: lengths that differ, or labels or instances that are not integers.
    """

    labels: Tensor
    instances: Tensor
    scores: Tensor

    def __post_init__(self) -> None:
        shapes = [tuple(values.shape) for values in (self.labels, self.instances, self.scores)]
        if len(set(shapes)) != 1 or len(shapes[0]) != 1:
            raise ValueError(f"HitClusters: labels, instances and scores must be (N,), got {shapes}")
        for name in ("labels", "instances"):
            values = getattr(self, name)
            if isinstance(values, Tensor) and values.is_floating_point():
                raise ValueError(f"HitClusters: {name} must be integers, got {values.dtype}")

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def all_noise(cls, count: int) -> HitClusters:
        """What is said of an event in which nothing was found."""
        whole = torch.int64
        labels = torch.full((count,), NOISE_CLASS, dtype=whole)
        return cls(labels, torch.full((count,), NO_INSTANCE, dtype=whole), torch.ones(count))

    def to(self, device) -> HitClusters:
        """Return a copy on ``device`` (tensors already there are shared)."""
        return HitClusters(*(values.to(device) for values in (self.labels, self.instances, self.scores)))

    def numpy(self) -> HitClusters:
        """Return the same as numpy arrays, detached and on the CPU; scores as float32."""
        if not isinstance(self.labels, Tensor):
            return self
        labels, instances = (values.detach().cpu().numpy() for values in (self.labels, self.instances))
        return HitClusters(labels, instances, self.scores.detach().float().cpu().numpy())
