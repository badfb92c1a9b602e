# SPDX-License-Identifier: Apache-2.0
"""The decoder of BEVFusion: SECOND's 2D backbone and feature pyramid over the fused bird's-eye view.

Source: Yan et al., SECOND, Sensors 18 (10), 2018; as in BEVFusion's released configuration (Liu et al., ICRA 2023).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcperc.models.blocks import ConvNormReLU
from pcperc.registry import MODELS


@MODELS.register_module()
class SECOND(nn.Module):
    """Stages of 3 x 3 convolutions; the first convolution of a stage has the stage's stride.

    Args:
        in_channels: channels of the map.
        out_channels: channels of each stage.
        num_convs: convolutions of each stage after its first one.
        strides: stride of each stage's first convolution.
        norm_eps, norm_momentum: of the batch norms.
    Raises:
        ValueError: lists of different lengths.
    """

    def __init__(
        self,
        in_channels: int = 256,
        out_channels: Sequence[int] = (128, 256),
        *,
        num_convs: Sequence[int] = (5, 5),
        strides: Sequence[int] = (1, 2),
        norm_eps: float = 1e-3,
        norm_momentum: float = 0.01,
    ):
        super().__init__()
        if not len(out_channels) == len(num_convs) == len(strides):
            raise ValueError(
                "SECOND: out_channels, num_convs and strides must be of one length, "
                f"got {len(out_channels)}, {len(num_convs)}, {len(strides)}"
            )
        norm = dict(eps=norm_eps, momentum=norm_momentum)
        self.blocks = nn.ModuleList()
        for channels, count, stride in zip(out_channels, num_convs, strides, strict=True):
            first = ConvNormReLU(in_channels, channels, 3, stride=stride, **norm)
            self.blocks.append(
                nn.Sequential(first, *(ConvNormReLU(channels, channels, 3, **norm) for _ in range(count)))
            )
            in_channels = channels

    def forward(self, bev: Tensor) -> list[Tensor]:
        """Map (B, C, X, Y) to one map per stage, finest first."""
        features = []
        for block in self.blocks:
            bev = block(bev)
            features.append(bev)
        return features


@MODELS.register_module()
class SECONDFPN(nn.Module):
    """Bring the stages to one resolution, each by a convolution as large as its stride, and concatenate them.

    Args:
        in_channels: channels of each input.
        out_channels: channels that each input is brought to.
        upsample_strides: how many times finer each input becomes; at 1 it passes a 1 x 1 convolution, at 1 / n one of
            side and step n.
        norm_eps, norm_momentum: of the batch norms.
    Raises:
        ValueError: lists of different lengths, or a stride that is neither a whole number nor the inverse of one.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (128, 256),
        out_channels: Sequence[int] = (256, 256),
        *,
        upsample_strides: Sequence[float] = (1, 2),
        norm_eps: float = 1e-3,
        norm_momentum: float = 0.01,
    ):
        super().__init__()
        if not len(in_channels) == len(out_channels) == len(upsample_strides):
            raise ValueError(
                "SECONDFPN: in_channels, out_channels and upsample_strides must be of one length, "
                f"got {len(in_channels)}, {len(out_channels)}, {len(upsample_strides)}"
            )
        self.deblocks = nn.ModuleList()
        for cin, cout, stride in zip(in_channels, out_channels, upsample_strides, strict=True):
            side = round(stride if stride >= 1 else 1 / stride)
            if stride not in (side, 1 / side):
                raise ValueError(f"SECONDFPN: upsample_strides must be whole numbers or their inverses, got {stride}")
            if stride <= 1:
                norm = dict(eps=norm_eps, momentum=norm_momentum)
                block = ConvNormReLU(cin, cout, side, stride=side, padding=0, **norm)
            else:
                block = nn.Sequential(
                    nn.ConvTranspose2d(cin, cout, side, stride=side, bias=False),
                    nn.BatchNorm2d(cout, eps=norm_eps, momentum=norm_momentum),
                    nn.ReLU(inplace=True),
                )
            self.deblocks.append(block)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Join one map per stage into (B, sum of out_channels, X, Y)."""
        if len(features) != len(self.deblocks):
            raise ValueError(f"SECONDFPN: features must be {len(self.deblocks)} maps, got {len(features)}")
        return torch.cat([block(feature) for block, feature in zip(self.deblocks, features, strict=True)], 1)


@MODELS.register_module()
class BEVDecoder(nn.Module):
    """Backbone and neck over the bird's-eye view.

    Args:
        backbone: map to a list of maps, such as SECOND.
        neck: list of maps to one map, such as SECONDFPN.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.neck = neck

    def forward(self, bev: Tensor) -> Tensor:
        """Map (B, C, X, Y) to (B, C', X, Y)."""
        return self.neck(self.backbone(bev))
