# SPDX-License-Identifier: Apache-2.0
"""A network that gives every hit of an event its cluster and class, in the form that training and testing call."""

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from pcperc import ops
from pcperc.geometry import HitClusters
from pcperc.geometry.calorimeter import HIT_CLASSES, NO_INSTANCE, NOISE_CLASS, class_advice
from pcperc.models.calorimeter._checks import check_counts
from pcperc.models.calorimeter.calo_spvcnn import HitOutputs
from pcperc.models.calorimeter.preprocessor import PreparedHits
from pcperc.models.losses import SegmentationLoss
from pcperc.registry import MODELS


@MODELS.register_module()
class HitClusterer(BaseModel):
    """Hits to clusters: a class for each hit, a grouping of those that are no noise, and a class for each cluster.

    A cluster's class is the one with the most energy among its hits.

    Args:
        data_preprocessor: see HitPreprocessor.
        backbone: PointTensor of hits to `HitOutputs`, with ``grouping.channels`` channels of embedding.
        grouping: see `pcperc.models.calorimeter.grouping`.
        loss: of the classes; None is cross entropy alone.
        min_hits: a cluster of fewer is noise, as such a particle is in the truth.
    Raises:
        TypeError: min_hits is no whole number. ValueError: min_hits < 1.
    """

    def __init__(
        self,
        data_preprocessor: nn.Module,
        backbone: nn.Module,
        grouping: nn.Module,
        loss: nn.Module | None = None,
        *,
        min_hits: int = 3,
    ):
        super().__init__(data_preprocessor)
        check_counts(self, min_hits=min_hits)
        self.backbone, self.grouping, self.min_hits = backbone, grouping, min_hits
        self.loss = SegmentationLoss() if loss is None else loss

    def forward(self, inputs: dict, samples: list[dict] | None = None, mode: str = "tensor"):
        """Run the network on a prepared batch.

        Args:
            inputs, samples: the batch as of the data preprocessor; docs/conventions.md lists the keys.
            mode: what to return.
        Returns:
            "tensor": HitOutputs. "loss": dict of scalars. "predict": list of B HitClusters.
        Raises:
            ValueError: another mode; a network of other channels; for a loss, not a class and an instance for each hit
                of a sample, which the message names.
        """
        if mode not in ("tensor", "loss", "predict"):
            raise ValueError(f"HitClusterer: mode must be 'tensor', 'loss' or 'predict', got {mode!r}")
        hits: PreparedHits = inputs["prepared"]
        found = self.backbone(hits.points)
        shape = found.logits.shape[1], found.embedding.shape[1]
        if shape != (len(HIT_CLASSES), self.grouping.channels):
            wanted = f"{len(HIT_CLASSES)} classes and {self.grouping.channels} channels of embedding"
            raise ValueError(f"HitClusterer: backbone must have {wanted}, got {shape}")
        if mode == "tensor":
            return found
        with torch.autocast(hits.xyz.device.type, enabled=False):
            found = HitOutputs(*(values if values.dtype == torch.float64 else values.float() for values in found))
            return self._losses(found, hits, samples) if mode == "loss" else self.cluster(found, hits)

    def _losses(self, found: HitOutputs, hits: PreparedHits, samples: list[dict] | None) -> dict[str, Tensor]:
        labels, instances = self._truth(hits, samples)
        losses = self.loss(found.logits, labels)
        items = hits.points.items
        sizes = items.starts.diff().tolist()
        parts: list[dict] = []
        for rows in items.order.long().split(sizes):
            if len(rows):
                parts.append(self.grouping.loss(found.embedding[rows], hits.xyz[rows], _numbered(instances[rows])))
        if not parts:  # a batch of empty events trains nothing
            return losses | {"loss_grouping": found.embedding.sum() * 0}
        means = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        return losses | means

    def _truth(self, hits: PreparedHits, samples: list[dict] | None) -> tuple[Tensor, Tensor]:
        """Return class and instance of each hit, (N,) int64."""
        if samples is None:
            raise ValueError("HitClusterer: samples must be given for a loss, got None")
        for sample, size in zip(samples, hits.sizes, strict=True):
            for key in ("class", "instance"):
                if key not in sample or len(sample[key]) != size:
                    got = len(sample[key]) if key in sample else "none"
                    name = sample.get("sample_token")
                    advice = class_advice(sample) if key not in sample else ""
                    raise ValueError(f"HitClusterer: sample {name} must have '{key}' of {size} hits, got {got}{advice}")
        return tuple(torch.cat([sample[key] for sample in samples]) for key in ("class", "instance"))

    def cluster(self, found: HitOutputs, hits: PreparedHits) -> list[HitClusters]:
        """Return what the network's outputs say of each event."""
        probabilities = found.logits.softmax(1)
        labels = probabilities.argmax(1)
        items = hits.points.coords[:, 0].long()
        clusters = self.grouping.cluster(found.embedding, hits.xyz, labels, items)
        labels, instances = self._described(clusters, labels, hits.energy, items // 2)
        scores = probabilities.gather(1, labels[:, None]).squeeze(1)
        events = (values.split(hits.sizes) for values in (labels, instances, scores))
        return [HitClusters(*event) for event in zip(*events, strict=True)]

    def _described(self, clusters: Tensor, labels: Tensor, energy: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class of each hit's cluster, and its number in its event, by falling energy."""
        known, index = torch.unique(clusters, return_inverse=True)
        segments = ops.make_segments(index, num_segments=len(known))
        by_class = nn.functional.one_hot(labels, len(HIT_CLASSES)) * energy[:, None].double()
        votes = ops.segment_reduce(by_class, segments, mode="sum")
        total, size = votes.sum(1), segments.starts.diff()
        # Without any energy the first class that is none of noise: hits of a cluster are none.
        label = votes[:, NOISE_CLASS + 1 :].argmax(1) + NOISE_CLASS + 1
        kept = (known >= 0) & (size >= self.min_hits)
        where = torch.zeros_like(known).scatter_(0, index, event)
        where = torch.where(kept, where, where.max() + 1 if len(where) else where)
        order = total.argsort(descending=True, stable=True)
        order = order[where[order].argsort(stable=True)]
        place = torch.arange(len(known), device=known.device)
        number = torch.empty_like(known).scatter_(0, order, place - torch.searchsorted(where[order], where[order]))
        number, label = torch.where(kept, number, NO_INSTANCE), torch.where(kept, label, NOISE_CLASS)
        return label[index], number[index]


def _numbered(instances: Tensor) -> Tensor:
    """Return instances (N > 0,) numbered from 0 without gaps, -1 for noise."""
    known, index = torch.unique(instances.clamp(min=NO_INSTANCE), return_inverse=True)
    return index - (known[0] < 0).long()
