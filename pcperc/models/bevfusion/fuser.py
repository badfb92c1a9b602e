# SPDX-License-Identifier: Apache-2.0
"""The convolutional fuser of BEVFusion."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcperc.models.blocks import ConvNormReLU
from pcperc.registry import MODELS


@MODELS.register_module()
class ConvFuser(nn.Module):
    """Concatenate the bird's-eye views of all modalities and mix them by one 3 x 3 convolution.

    The convolution lets the features of one modality make up for a small shift against another's.

    Args:
        in_channels: channels of each modality's map, camera first.
        out_channels: channels of the fused map.
    Source: Liu et al., BEVFusion, ICRA 2023, section III-C.
    """

    def __init__(self, in_channels: Sequence[int] = (80, 256), out_channels: int = 256):
        super().__init__()
        self.in_channels = tuple(in_channels)
        self.conv = ConvNormReLU(sum(in_channels), out_channels, 3)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Fuse maps (B, in_channels[i], X, Y) into (B, out_channels, X, Y).

        Raises:
            ValueError: other channels than told, or maps of different sizes.
        """
        shapes = [tuple(feature.shape) for feature in features]
        same_grid = len({(shape[0], *shape[2:]) for shape in shapes}) == 1
        if tuple(shape[1] for shape in shapes) != self.in_channels or not same_grid:
            raise ValueError(
                f"ConvFuser: features must be (B, C, X, Y) of one grid with C = {self.in_channels}, got {shapes}"
            )
        return self.conv(torch.cat(list(features), 1))
