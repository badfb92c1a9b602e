# SPDX-License-Identifier: Apache-2.0
"""Channels weighted by a look at the whole cloud."""

import torch
from torch import nn

from pcperc import ops
from pcperc.nn._checks import check_input
from pcperc.ops._checks import positive_int
from pcperc.sparse import SparseTensor


class SqueezeExcite(nn.Module):
    """Multiply the channels of each batch item by gates in (0, 1), computed from the mean of its voxels.

    ``gate = sigmoid(excite(relu(squeeze(mean))))`` with two linear layers.

    Args:
        channels: C, >= 1.
        reduction: the layer between has max(C // reduction, 1) channels; >= 1.
        device, dtype: of the parameters, as in torch's layers.
    Shape: SparseTensor with (M, C) features to one of the same voxels and dtype. An item without voxels takes no part.
    Raises:
        TypeError: not a SparseTensor.
        ValueError: an argument, or an input with other channels.
    Source: Hu, Shen, Sun, "Squeeze-and-Excitation Networks", CVPR 2018, section 3.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.channels = positive_int("SqueezeExcite", "channels", channels)
        reduction = positive_int("SqueezeExcite", "reduction", reduction)
        self.squeeze = nn.Linear(channels, max(channels // reduction, 1), device=device, dtype=dtype)
        self.excite = nn.Linear(self.squeeze.out_features, channels, device=device, dtype=dtype)

    def forward(self, x: SparseTensor) -> SparseTensor:
        check_input(self, x, channels=self.channels)
        items = x.kernel_maps.batch_segments(x.topology)
        means = ops.segment_reduce(x.feats, items, mode="mean").to(self.squeeze.weight.dtype)
        gates = self.excite(self.squeeze(means).relu()).sigmoid()
        return x.replace(feats=ops.segment_affine(x.feats, items, scale=gates))
