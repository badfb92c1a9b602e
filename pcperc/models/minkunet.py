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
        width: factor on all numbers of channels below, rounded down: 0.5, 0.64 and 1 have published results.
        widths: channels of the stem, the four stages down and the four stages up.
        transitions: channels behind the strided convolution of each of the eight stages; None keeps those that enter a
            stage down, and takes those that leave a stage up.
        inner_widths: for each of the eight stages, for each of its residual blocks, the channels between the block's
            two convolutions; None is two blocks as wide as the stage.
        project_first: whether the first block of each stage projects its shortcut even where the channels stay, as in
            SPVNAS.
    Shape: SparseTensor with (M, in_channels) features to one of the same voxels with (M, num_classes), or (M,
        ``out_channels``) without a head. M may be 0. The lattice is unbounded, or of sizes that 16 divides: as torch's
        convolutions do, a step down leaves out the last cells of an odd size.
    Raises:
        ValueError: not as many numbers as said here, or one of them is below 1.
    """

    def __init__(
        self,
        in_channels: int = 4,
        num_classes: int | None = None,
        *,
        width: float = 1.0,
        widths: Sequence[int] = WIDTHS,
        transitions: Sequence[int] | None = None,
        inner_widths: Sequence[Sequence[int]] | None = None,
        project_first: bool = False,
    ):
        super().__init__()
        widths = self._scaled("widths", widths, width, "nine numbers", 9)
        if transitions is None:
            transitions = widths[:4] + widths[5:]
        else:
            transitions = self._scaled("transitions", transitions, width, "eight numbers", 8)
        if inner_widths is None:
            inner_widths = [(channels, channels) for channels in widths[1:]]
        elif len(inner_widths) != 8:
            raise ValueError(f"{type(self).__name__}: inner_widths must be of eight stages, got {len(inner_widths)}")
        else:
            inner_widths = [self._scaled("inner_widths", inner, width, "one number a block") for inner in inner_widths]
        self.out_channels = widths[-1]
        self.stem = nn.Sequential(_conv(in_channels, widths[0]), _conv(widths[0], widths[0]))
        stages = list(zip(widths[:-1], widths[1:], transitions, inner_widths, strict=True))
        self.down_stages = nn.ModuleList(DownStage(*stage, project_first=project_first) for stage in stages[:4])
        self.up_stages = nn.ModuleList(
            UpStage(*stage, skip_channels=skip, project_first=project_first)
            for stage, skip in zip(stages[4:], widths[3::-1], strict=True)
        )
        self.classifier = None if num_classes is None else spnn.Linear(self.out_channels, num_classes)

    def _scaled(self, name: str, values: Sequence[int], width: float, what: str, count: int | None = None):
        values = tuple(int(width * channels) for channels in values)
        if (count is not None and len(values) != count) or min(values, default=0) < 1:
            raise ValueError(f"{type(self).__name__}: {name} must be {what} >= 1, got {values}")
        return values

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
    """Half the resolution, then residual blocks."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        transition: int,
        inner_widths: Sequence[int],
        *,
        project_first: bool,
    ):
        super().__init__()
        conv = spnn.SparseConv3d(in_channels, transition, 2, stride=2, bias=False)
        self.down = spnn.ConvBlock(conv, spnn.BatchNorm(transition), spnn.ReLU())
        self.blocks = _residual_blocks(transition, out_channels, inner_widths, project_first)

    def forward(self, x: SparseTensor) -> SparseTensor:
        return self.blocks(self.down(x))


class UpStage(nn.Module):
    """Back to the voxels of ``skip``, its features behind those from below, then residual blocks."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        transition: int,
        inner_widths: Sequence[int],
        *,
        skip_channels: int,
        project_first: bool,
    ):
        super().__init__()
        conv = spnn.SparseInverseConv3d(in_channels, transition, 2, bias=False)
        self.up = spnn.ConvBlock(conv, spnn.BatchNorm(transition), spnn.ReLU())
        self.blocks = _residual_blocks(transition + skip_channels, out_channels, inner_widths, project_first)

    def forward(self, x: SparseTensor, skip: SparseTensor) -> SparseTensor:
        return self.blocks(cat([self.up(x), skip]))


def _conv(in_channels: int, out_channels: int) -> spnn.ConvBlock:
    conv = spnn.SubMConv3d(in_channels, out_channels, 3, bias=False)
    return spnn.ConvBlock(conv, spnn.BatchNorm(out_channels), spnn.ReLU())


def _residual_blocks(
    in_channels: int, out_channels: int, inner_widths: Sequence[int], project_first: bool
) -> nn.Sequential:
    first = spnn.ResidualBlock(in_channels, out_channels, inner_channels=inner_widths[0], project=project_first)
    others = (spnn.ResidualBlock(out_channels, out_channels, inner_channels=inner) for inner in inner_widths[1:])
    return nn.Sequential(first, *others)
