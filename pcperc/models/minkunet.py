# SPDX-License-Identifier: Apache-2.0
"""MinkUNet: a residual U-Net of 42 sparse convolutions for labels per voxel.

Source: Choy, Gwak, Savarese, "4D Spatio-Temporal ConvNets: Minkowski Convolutional Neural Networks", CVPR 2019, in the
form and at the widths of Tang et al., "Searching Efficient 3D Architectures with Sparse Point-Voxel Convolution",
ECCV 2020, where it is the baseline of SPVNAS.
"""

from collections.abc import Sequence

from torch import nn

from pcperc import nn as spnn
from pcperc.registry import MODELS
from pcperc.sparse import SparseTensor, cat

WIDTHS = (32, 32, 64, 128, 256, 256, 128, 96, 96)


@MODELS.register_module()
class MinkUNet(nn.Module):
    """A stem, four stages down to 1/16 of the resolution, and four back up with skip connections.

    Args:
        in_channels: channels of a voxel (x, y, z, intensity).
        num_classes: classes of the linear head; None leaves it out, and the features of the last stage come out.
        width: factor on all of ``widths``, rounded down: 0.5, 0.64 and 1 have published results.
        widths: channels of the stem, the four stages down and the four stages up.
    Shape: SparseTensor with (M, in_channels) features to one of the same voxels with (M, num_classes), or (M,
        ``out_channels``) without a head. M may be 0. The lattice is unbounded, or of sizes that 16 divides: as torch's
        convolutions do, a step down leaves out the last cells of an odd size.
    Raises:
        ValueError: not nine widths, or one of them is below 1.
    """

    def __init__(
        self,
        in_channels: int = 4,
        num_classes: int | None = None,
        *,
        width: float = 1.0,
        widths: Sequence[int] = WIDTHS,
    ):
        super().__init__()
        widths = tuple(int(width * channels) for channels in widths)
        if len(widths) != 9 or min(widths) < 1:
            raise ValueError(f"MinkUNet: widths must be nine numbers >= 1, got {widths}")
        down, up = widths[:5], widths[4:]
        self.out_channels = widths[-1]
        self.stem = nn.Sequential(_conv(in_channels, widths[0]), _conv(widths[0], widths[0]))
        self.down_stages = nn.ModuleList(DownStage(down[i], down[i + 1]) for i in range(4))
        self.up_stages = nn.ModuleList(UpStage(up[i], down[3 - i], up[i + 1]) for i in range(4))
        self.classifier = None if num_classes is None else spnn.Linear(self.out_channels, num_classes)

    def forward(self, voxels: SparseTensor) -> SparseTensor:
        x = self.stem(voxels)
        skips = []
        for stage in self.down_stages:
            skips.append(x)
            x = stage(x)
        for stage in self.up_stages:
            x = stage(x, skips.pop())
        return x if self.classifier is None else self.classifier(x)


class DownStage(nn.Module):
    """Half the resolution, then two residual blocks."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        conv = spnn.SparseConv3d(in_channels, in_channels, 2, stride=2, bias=False)
        self.down = spnn.ConvBlock(conv, spnn.BatchNorm(in_channels), spnn.ReLU())
        self.blocks = _residual_blocks(in_channels, out_channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        return self.blocks(self.down(x))


class UpStage(nn.Module):
    """Back to the voxels of ``skip``, its features beside those from below, then two residual blocks."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int):
        super().__init__()
        conv = spnn.SparseInverseConv3d(in_channels, out_channels, 2, bias=False)
        self.up = spnn.ConvBlock(conv, spnn.BatchNorm(out_channels), spnn.ReLU())
        self.blocks = _residual_blocks(out_channels + skip_channels, out_channels)

    def forward(self, x: SparseTensor, skip: SparseTensor) -> SparseTensor:
        return self.blocks(cat([self.up(x), skip]))


def _conv(in_channels: int, out_channels: int) -> spnn.ConvBlock:
    conv = spnn.SubMConv3d(in_channels, out_channels, 3, bias=False)
    return spnn.ConvBlock(conv, spnn.BatchNorm(out_channels), spnn.ReLU())


def _residual_blocks(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(spnn.ResidualBlock(in_channels, out_channels), spnn.ResidualBlock(out_channels, out_channels))
