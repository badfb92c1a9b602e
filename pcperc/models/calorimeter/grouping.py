# SPDX-License-Identifier: Apache-2.0
"""Three ways from the embedding of hits to clusters, each with the loss that it is trained by.

A grouping has ``channels`` of the embedding; ``loss(embedding, xyz, objects)`` of one event, objects as in
`pcperc.models.losses.clusters`; ``cluster(embedding, xyz, labels, items)`` of a batch, with the predicted class of each
hit and the item that it is in: (N,) int64 numbers of clusters, -1 for none. Hits of the class noise are in no cluster.
"""

import torch
from torch import Tensor, nn

from pcperc.geometry.calorimeter import HIT_CLASSES, NOISE_CLASS
from pcperc.models.calorimeter._checks import check_counts, check_not_negative, check_part, check_positive
from pcperc.models.calorimeter.clustering import condense, mean_shift
from pcperc.models.losses.clusters import discriminative_loss, object_condensation_loss, offset_loss
from pcperc.ops.condense import MAX_COLUMNS
from pcperc.registry import MODELS


@MODELS.register_module()
class ObjectCondensation(nn.Module):
    """A charge (the first channel, through a sigmoid) and a place for each hit; clusters are around large charges.

    Args:
        dims: of the space, 1 to 128. weight: of the loss, >= 0. q_min, noise_weight: as of `object_condensation_loss`,
            >= 0.
        radius, min_beta: as of `condense`; those of CMS's SPVCNN. Published with GravNet: 1.0 and 0.1. The radius is
            above 0; min_beta is in [0, 1), since no beta is above 1.
    Raises:
        TypeError: no number. ValueError: one out of its range.
    """

    def __init__(
        self,
        dims: int = 6,
        *,
        weight: float = 1.0,
        q_min: float = 1.0,
        noise_weight: float = 0.1,
        radius: float = 0.7,
        min_beta: float = 0.1,
    ):
        super().__init__()
        check_counts(self, most=MAX_COLUMNS, dims=dims)
        check_not_negative(self, weight=weight, q_min=q_min, noise_weight=noise_weight)
        check_positive(self, radius=radius)
        check_part(self, min_beta=min_beta)
        self.channels, self.weight, self.q_min, self.noise_weight = 1 + dims, weight, q_min, noise_weight
        self.radius, self.min_beta = radius, min_beta

    def loss(self, embedding: Tensor, xyz: Tensor, objects: Tensor) -> dict[str, Tensor]:
        beta = embedding[:, 0].sigmoid()
        options = {"q_min": self.q_min, "noise_weight": self.noise_weight}
        found = object_condensation_loss(beta, embedding[:, 1:], objects, **options)
        return {f"loss_{name}": self.weight * value for name, value in found._asdict().items()}

    def cluster(self, embedding: Tensor, xyz: Tensor, labels: Tensor, items: Tensor) -> Tensor:
        group = torch.where(labels == NOISE_CLASS, -1, items)
        beta = embedding[:, 0].sigmoid()
        return condense(embedding[:, 1:], beta, group, radius=self.radius, min_beta=self.min_beta)


@MODELS.register_module()
class DiscriminativeEmbedding(nn.Module):
    """A direction for each hit; clusters by mean shift within each predicted class.

    Args:
        dims: of the embedding, >= 1. weight: of the loss, >= 0. pull_margin, push_margin: as of `discriminative_loss`,
            >= 0.
        bandwidth: of the mean shift, > 0; the pull margin by default, within which of their mean all hits are that cost
            nothing. The published 0.1 breaks such clusters up.
    Raises:
        TypeError: no number. ValueError: one out of its range.
    """

    def __init__(
        self,
        dims: int = 8,
        *,
        weight: float = 1.0,
        pull_margin: float = 0.5,
        push_margin: float = 1.5,
        bandwidth: float = 0.5,
    ):
        super().__init__()
        check_counts(self, dims=dims)
        check_not_negative(self, weight=weight, pull_margin=pull_margin, push_margin=push_margin)
        check_positive(self, bandwidth=bandwidth)
        self.channels, self.weight, self.bandwidth = dims, weight, bandwidth
        self.pull_margin, self.push_margin = pull_margin, push_margin

    def loss(self, embedding: Tensor, xyz: Tensor, objects: Tensor) -> dict[str, Tensor]:
        margins = {"pull_margin": self.pull_margin, "push_margin": self.push_margin}
        found = discriminative_loss(embedding, objects, **margins)
        return {f"loss_{name}": self.weight * value for name, value in found._asdict().items()}

    def cluster(self, embedding: Tensor, xyz: Tensor, labels: Tensor, items: Tensor) -> Tensor:
        x = nn.functional.normalize(embedding.float(), dim=1)
        return mean_shift(x, within_class(labels, items), bandwidth=self.bandwidth)


@MODELS.register_module()
class CentreOffset(nn.Module):
    """How far the middle of its shower is from each hit, in metres; clusters by mean shift within each predicted class.

    Args:
        weight: of the loss, >= 0. bandwidth: of the mean shift, in cm, > 0.
    Raises:
        TypeError: no number. ValueError: one out of its range.
    """

    channels = 3

    def __init__(self, *, weight: float = 0.1, bandwidth: float = 5.0):
        super().__init__()
        check_not_negative(self, weight=weight)
        check_positive(self, bandwidth=bandwidth)
        self.weight, self.bandwidth = weight, bandwidth

    def loss(self, embedding: Tensor, xyz: Tensor, objects: Tensor) -> dict[str, Tensor]:
        return {"loss_offset": self.weight * offset_loss(embedding, xyz / 100, objects)}

    def cluster(self, embedding: Tensor, xyz: Tensor, labels: Tensor, items: Tensor) -> Tensor:
        return mean_shift(xyz + 100 * embedding.float(), within_class(labels, items), bandwidth=self.bandwidth)


def within_class(labels: Tensor, items: Tensor) -> Tensor:
    """Return the group of each hit for `mean_shift`: hits of one item and class; -1 for noise."""
    return torch.where(labels == NOISE_CLASS, -1, items * len(HIT_CLASSES) + labels)
