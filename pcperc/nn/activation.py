# SPDX-License-Identifier: Apache-2.0
"""torch's layers that treat every row alone, applied to the features of a sparse or point tensor."""

from torch import nn

from pcperc.nn._checks import Rows, check_dtype, check_rows


class OnFeats:
    """Mixed in before a torch module: its forward then maps SparseTensor to SparseTensor and PointTensor to
    PointTensor, coordinates unchanged.

    For a layer that is not below: ``class Hardtanh(OnFeats, torch.nn.Hardtanh): pass``.
    """

    def forward(self, x: Rows) -> Rows:
        check_rows(self, x)
        try:
            feats = super().forward(x.feats)
        except RuntimeError:
            check_dtype(self, x.feats)
            raise
        return x.replace(feats=feats)


class ReLU(OnFeats, nn.ReLU):
    """torch.nn.ReLU on the features."""


class ReLU6(OnFeats, nn.ReLU6):
    """torch.nn.ReLU6 on the features."""


class LeakyReLU(OnFeats, nn.LeakyReLU):
    """torch.nn.LeakyReLU on the features."""


class ELU(OnFeats, nn.ELU):
    """torch.nn.ELU on the features."""


class SELU(OnFeats, nn.SELU):
    """torch.nn.SELU on the features."""


class GELU(OnFeats, nn.GELU):
    """torch.nn.GELU on the features."""


class SiLU(OnFeats, nn.SiLU):
    """torch.nn.SiLU on the features."""


class Mish(OnFeats, nn.Mish):
    """torch.nn.Mish on the features."""


class Hardswish(OnFeats, nn.Hardswish):
    """torch.nn.Hardswish on the features."""


class Sigmoid(OnFeats, nn.Sigmoid):
    """torch.nn.Sigmoid on the features."""


class Tanh(OnFeats, nn.Tanh):
    """torch.nn.Tanh on the features."""


class Softplus(OnFeats, nn.Softplus):
    """torch.nn.Softplus on the features."""


class PReLU(OnFeats, nn.PReLU):
    """torch.nn.PReLU on the features, with one slope for all channels or one each."""

    def forward(self, x: Rows) -> Rows:
        check_rows(self, x, channels=None if self.num_parameters == 1 else self.num_parameters)
        return super().forward(x)


class _OverChannels(OnFeats):
    def __init__(self, dim: int = 1):
        if dim not in (1, -1):
            raise ValueError(f"{type(self).__name__}: dim must be 1, the channels, got {dim}")
        super().__init__(dim=1)


class Softmax(_OverChannels, nn.Softmax):
    """torch.nn.Softmax over the channels of each voxel."""


class LogSoftmax(_OverChannels, nn.LogSoftmax):
    """torch.nn.LogSoftmax over the channels of each voxel."""


class Dropout(OnFeats, nn.Dropout):
    """torch.nn.Dropout on the features: single numbers, not whole voxels, are dropped."""


class Linear(OnFeats, nn.Linear):
    """torch.nn.Linear on the features of each voxel or point."""

    def forward(self, x: Rows) -> Rows:
        check_rows(self, x, channels=self.in_features)
        return super().forward(x)
