# SPDX-License-Identifier: Apache-2.0
"""Calo-SPVCNN: SPVCNN with one head for the class of each hit and one that brings hits of a shower together."""

from typing import NamedTuple

from torch import Tensor, nn

from pcperc import nn as spnn
from pcperc.models.calorimeter._checks import check_counts, check_positive
from pcperc.models.minkunet import WIDTHS, UpStage
from pcperc.models.spvcnn import SPVCNN
from pcperc.nn._checks import check_points
from pcperc.registry import MODELS
from pcperc.sparse import PointTensor


class HitOutputs(NamedTuple):
    """What a network says of N hits."""

    logits: Tensor  # (N, C), of the class
    embedding: Tensor  # (N, E), whose meaning is its grouping's


@MODELS.register_module()
class CaloSPVCNN(SPVCNN):
    """The trunk of SPVCNN up to its third stage up; the fourth, with its meeting of points and voxels, for each head.

    Args:
        in_channels: features of a hit. num_classes: of the first head. embedding_channels: of the second; all >= 1.
        width: factor on the channels of SPVCNN, > 0; 0.5 has 5.74M parameters, 1 has 22.96M.
        dropout: as in ``SPVCNN``.
    Shape: PointTensor with (N, in_channels) features to `HitOutputs`; N may be 0, and so may be the points of an item.
    Raises:
        TypeError, ValueError: as of ``SPVCNN``; numbers of channels or a width out of their range.
    Source: the recipe that the authors of SPVCNN published for calorimeters (two branches behind a shared trunk).
    """

    def __init__(
        self,
        in_channels: int = 5,
        num_classes: int = 3,
        embedding_channels: int = 8,
        *,
        width: float = 0.5,
        dropout: float = 0.3,
    ):
        check_counts(self, in_channels=in_channels, num_classes=num_classes, embedding_channels=embedding_channels)
        check_positive(self, width=width)
        super().__init__(in_channels, num_classes, width=width, dropout=dropout)
        stem, middle, below, top = (int(width * WIDTHS[i]) for i in (0, 6, 7, 8))
        self.embedding_stage = UpStage(below, top, top, (top, top), skip_channels=stem, project_first=False)
        self.embedding_transform = nn.Sequential(spnn.Linear(middle, top), spnn.BatchNorm(top), spnn.ReLU())
        self.embedder = spnn.Linear(top, embedding_channels)

    def forward(self, points: PointTensor) -> HitOutputs:
        check_points("CaloSPVCNN", points)
        x, skip, points = self._trunk(points)
        logits = self._meet(self.up_stages[3](x, skip), points, self.point_transforms[2])
        embedding = self._meet(self.embedding_stage(x, skip), points, self.embedding_transform)
        return HitOutputs(self.classifier(logits).feats, self.embedder(embedding).feats)
