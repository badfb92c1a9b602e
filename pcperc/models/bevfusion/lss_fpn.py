# SPDX-License-Identifier: Apache-2.0
"""The camera neck of BEVFusion: a feature pyramid that concatenates instead of adding."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcperc.models.blocks import ConvNormReLU
from pcperc.registry import MODELS


@MODELS.register_module()
class GeneralizedLSSFPN(nn.Module):
    """Top-down pyramid: each level takes in the upsampled level above it. 1.59M parameters at the defaults.

    From the second-highest level down: upsample the result above (bilinear, align_corners False), append its channels
    to the level's, 1x1 convolution, 3x3 convolution. The highest input has no output of its own.

    Args:
        in_channels: channels of the backbone's maps, finest first; at least two.
        out_channels: channels of every output.

    Raises:
        ValueError: fewer than two maps.

    Source: Liu et al., BEVFusion, ICRA 2023; Philion and Fidler, Lift, Splat, Shoot, ECCV 2020 for the idea.
    """

    def __init__(self, *, in_channels: Sequence[int] = (192, 384, 768), out_channels: int = 256):
        super().__init__()
        if len(in_channels) < 2:
            raise ValueError(f"GeneralizedLSSFPN: in_channels must name two maps or more, got {tuple(in_channels)}")
        self.in_channels = tuple(in_channels)
        self.out_channels = out_channels
        above = [out_channels] * (len(in_channels) - 2) + [in_channels[-1]]
        self.lateral_convs = nn.ModuleList(
            ConvNormReLU(own + top, out_channels, 1) for own, top in zip(in_channels[:-1], above, strict=True)
        )
        self.fpn_convs = nn.ModuleList(ConvNormReLU(out_channels, out_channels, 3) for _ in above)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Fuse the maps from coarse to fine.

        Args:
            features: one (N, in_channels[i], H_i, W_i) for each entry of ``in_channels``, finest first, any sizes.

        Returns:
            len(in_channels) - 1 maps (N, out_channels, H_i, W_i), finest first; the view transform takes the first.

        Raises:
            ValueError: another number of maps.
        """
        if len(features) != len(self.in_channels):
            raise ValueError(f"GeneralizedLSSFPN: features must be {len(self.in_channels)} maps, got {len(features)}")
        top = features[-1]
        outputs = []
        for i in reversed(range(len(features) - 1)):
            # On a GPU torch resizes maps of many channels several times faster in this memory format.
            top = top.contiguous(memory_format=torch.channels_last)
            top = F.interpolate(top, size=features[i].shape[-2:], mode="bilinear", align_corners=False)
            top = self.lateral_convs[i](torch.cat([features[i], top], dim=1))
            top = self.fpn_convs[i](top)
            outputs.append(top)
        return outputs[::-1]
