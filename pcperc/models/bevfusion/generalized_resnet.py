# SPDX-License-Identifier: Apache-2.0
"""The decoder of the camera-only detector: a residual 2D backbone and its feature pyramid over the bird's-eye view.

Source: released configuration of BEVFusion (Liu et al., ICRA 2023); He et al., Deep residual learning, CVPR 2016.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcperc.models.blocks import ConvNormReLU
from pcperc.registry import MODELS


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut past both, under the names that checkpoints have."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, bev: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(bev)))
        return self.relu(self.bn2(self.conv2(out)) + self.downsample(bev))


@MODELS.register_module()
class GeneralizedResNet(nn.ModuleList):
    """Stages of residual blocks; the first block of a stage has the stage's stride.

    Args:
        in_channels: channels of the map.
        stages: number of blocks, channels and stride of each stage.
    """

    def __init__(
        self, in_channels: int = 80, stages: Sequence[Sequence[int]] = ((2, 128, 2), (2, 256, 2), (2, 512, 1))
    ):
        super().__init__()
        for count, channels, stride in stages:
            first = BasicBlock(in_channels, channels, stride)
            self.append(nn.Sequential(first, *(BasicBlock(channels, channels) for _ in range(count - 1))))
            in_channels = channels

    def forward(self, bev: Tensor) -> list[Tensor]:
        """Map (B, C, X, Y) to one map per stage, finest first."""
        features = []
        for stage in self:
            bev = stage(bev)
            features.append(bev)
        return features


@MODELS.register_module()
class LSSFPN(nn.Module):
    """Bring the last stage to the size of the first, fuse both, and make the result finer.

    Upsampling is bilinear with align_corners True, as published.

    Args:
        in_channels: channels of the last stage and of the first.
        out_channels: channels of the result.
        scale_factor: how many times finer than the first stage the result is.
    """

    def __init__(self, in_channels: Sequence[int] = (512, 128), out_channels: int = 256, *, scale_factor: int = 2):
        super().__init__()
        self.scale_factor = scale_factor
        self.fuse = nn.Sequential(
            ConvNormReLU(sum(in_channels), out_channels, 1), ConvNormReLU(out_channels, out_channels, 3)
        )
        self.upsample = nn.Identity()
        if scale_factor > 1:
            self.upsample = nn.Sequential(
                nn.Upsample(scale_factor=scale_factor, mode="bilinear", align_corners=True),
                ConvNormReLU(out_channels, out_channels, 3),
            )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Join the first and the last of the maps (B, C, X, Y) into (B, out_channels, X', Y')."""
        coarse = F.interpolate(features[-1], size=features[0].shape[-2:], mode="bilinear", align_corners=True)
        return self.upsample(self.fuse(torch.cat([coarse, features[0]], dim=1)))
