# SPDX-License-Identifier: Apache-2.0
"""torch's layers that treat every voxel alone, applied to the features of a sparse tensor."""

from torch import nn

from pcperc.nn._checks import check_input
from pcperc.sparse import SparseTensor


class OnFeats:
    """Mixed in before a torch module: its forward then maps SparseTensor to SparseTensor, voxels unchanged."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        check_input(self, x)
        return x.replace(feats=super().forward(x.feats))


class ReLU(OnFeats, nn.ReLU):
    """torch.nn.ReLU on the features."""


class LeakyReLU(OnFeats, nn.LeakyReLU):
    """torch.nn.LeakyReLU on the features."""


class GELU(OnFeats, nn.GELU):
    """torch.nn.GELU on the features."""


class SiLU(OnFeats, nn.SiLU):
    """torch.nn.SiLU on the features."""


class Sigmoid(OnFeats, nn.Sigmoid):
    """torch.nn.Sigmoid on the features."""


class Tanh(OnFeats, nn.Tanh):
    """torch.nn.Tanh on the features."""


class Dropout(OnFeats, nn.Dropout):
    """torch.nn.Dropout on the features: single numbers, not whole voxels, are dropped."""


class Linear(OnFeats, nn.Linear):
    """torch.nn.Linear on the features of each voxel."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        check_input(self, x, channels=self.in_features)
        return super().forward(x)
