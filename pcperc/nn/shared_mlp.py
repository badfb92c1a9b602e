# SPDX-License-Identifier: Apache-2.0
"""The perceptron that networks of points apply to each point alone."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from pcperc.nn.norm import RowBatchNorm
from pcperc.ops._checks import describe, plain, positive_int
from pcperc.sparse import PointTensor

PointsOrRows = TypeVar("PointsOrRows", PointTensor, Tensor)


class SharedMLP(nn.Sequential):
    """Linear, batch norm and ReLU for each number of ``channels``, on every row alone.

    Args:
        in_channels: channels of the input, >= 1.
        channels: those of each layer; one number for one layer.
        device, dtype: of the parameters, as in torch's layers.
    Shape: (rows, in_channels) features, or a PointTensor of such, to the same with (rows, channels[-1]). Fewer than two
        rows are normalised by the running statistics in training too, as in ``BatchNorm``.
    Raises:
        TypeError, ValueError: not whole numbers > 0; an input with other channels.
    Source: Qi, Su, Mo and Guibas, "PointNet", CVPR 2017, section 4.2; there it is a convolution of kernel size 1.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int | Sequence[int],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        channels = plain(channels)
        sizes = [in_channels, *(channels if isinstance(channels, Sequence) else [channels])]
        sizes = [positive_int("SharedMLP", "channels", size) for size in sizes]
        layers = []
        for before, after in zip(sizes[:-1], sizes[1:], strict=True):
            linear = nn.Linear(before, after, device=device, dtype=dtype)
            layers += [linear, RowBatchNorm(after, device=device, dtype=dtype), nn.ReLU()]
        super().__init__(*layers)
        self.in_channels, self.out_channels = sizes[0], sizes[-1]

    def forward(self, x: PointsOrRows) -> PointsOrRows:
        feats = x.feats if isinstance(x, PointTensor) else x
        if not isinstance(feats, Tensor) or feats.dim() != 2 or feats.shape[1] != self.in_channels:
            raise ValueError(f"SharedMLP: input must be (rows, {self.in_channels}), got {describe(feats)}")
        feats = super().forward(feats)
        return x.replace(feats=feats) if isinstance(x, PointTensor) else feats
