# SPDX-License-Identifier: Apache-2.0
"""MinkUNet in another library: built from a MinkUNet of pcperc, with its weights, so that both compute the same."""

import copy

import torch
from torch import Tensor, nn

import pcperc.nn as spnn
from pcperc.benchmark.libraries import Layer, Library
from pcperc.models.minkunet import DownStage, MinkUNet, UpStage


class PeerUNet(nn.Module):
    """Takes and gives the library's own tensor; batch norms and sums are plain torch on the features."""

    def __init__(self, library: Library, net: MinkUNet):
        super().__init__()
        self.stem = nn.Sequential(*(_ConvBlock(library, block, "level0") for block in net.stem))
        self.down_stages = nn.ModuleList(_Down(library, stage, i) for i, stage in enumerate(net.down_stages))
        self.up_stages = nn.ModuleList(_Up(library, stage, 3 - i) for i, stage in enumerate(net.up_stages))

    def forward(self, x):
        x = self.stem(x)
        skips = []
        for stage in self.down_stages:
            skips.append(x)
            x = stage(x)
        for stage in self.up_stages:
            x = stage(x, skips.pop())
        return x

    @torch.inference_mode()
    def without_convolutions(self, x) -> nn.Module:
        """Return the network whose convolutions give what they give for ``x``, at no cost."""
        other = copy.deepcopy(self)
        blocks = [module for module in other.modules() if isinstance(module, _ConvBlock)]
        for block in blocks:
            block.conv = _Recorded(block.conv)
        other(x)
        for block in blocks:
            block.conv.conv = None
        return other


class _Recorded(nn.Module):
    """A layer until it is taken away; then it gives what it gave before."""

    def __init__(self, conv: nn.Module):
        super().__init__()
        self.conv, self.output = conv, None

    def forward(self, x):
        if self.conv is not None:
            self.output = self.conv(x)
        return self.output


class _ConvBlock(nn.Module):
    """Convolution, batch norm and, but in front of a residual sum, ReLU."""

    def __init__(self, library: Library, block: spnn.ConvBlock, name: str):
        super().__init__()
        conv, self.library = block.conv, library
        kind = {spnn.SubMConv3d: "submanifold", spnn.SparseConv3d: "strided", spnn.SparseInverseConv3d: "inverse"}
        stride = 1 if isinstance(conv, spnn.SubMConv3d) else 2
        channels = conv.in_channels, conv.out_channels
        self.conv = library.layer(Layer(kind[type(conv)], conv.kernel_size[0], stride, 0, *channels, name=name))
        library.set_weight(self.conv, conv.tap_weights.detach())
        self.norm = _batch_norm(block.norm)

    def forward(self, x, residual: Tensor | None = None):
        x = self.conv(x)
        feats = self.norm(self.library.feats(x))
        return self.library.with_feats(x, torch.relu(feats if residual is None else feats + residual))


class _Residual(nn.Module):
    def __init__(self, library: Library, block: spnn.ResidualBlock, name: str):
        super().__init__()
        self.library = library
        self.block1 = _ConvBlock(library, block.block1, name)
        self.block2 = _ConvBlock(library, block.block2, name)
        self.shortcut = nn.Identity()
        if block.shortcut is not None:  # a kernel of one tap is a linear layer
            conv = block.shortcut.conv
            linear = nn.Linear(conv.in_channels, conv.out_channels, bias=False)
            linear.weight.data.copy_(conv.tap_weights[0].T)
            self.shortcut = nn.Sequential(linear, _batch_norm(block.shortcut.norm))

    def forward(self, x):
        return self.block2(self.block1(x), self.shortcut(self.library.feats(x)))


class _Down(nn.Module):
    def __init__(self, library: Library, stage: DownStage, level: int):
        super().__init__()
        self.down = _ConvBlock(library, stage.down, f"down{level}")
        self.blocks = nn.Sequential(*(_Residual(library, block, f"level{level + 1}") for block in stage.blocks))

    def forward(self, x):
        return self.blocks(self.down(x))


class _Up(nn.Module):
    def __init__(self, library: Library, stage: UpStage, level: int):
        super().__init__()
        self.library = library
        self.up = _ConvBlock(library, stage.up, f"down{level}")
        self.blocks = nn.Sequential(*(_Residual(library, block, f"level{level}") for block in stage.blocks))

    def forward(self, x, skip):
        x = self.up(x)
        feats = torch.cat([self.library.feats(x), self.library.feats(skip)], 1)
        return self.blocks(self.library.with_feats(x, feats))


def _batch_norm(norm: spnn.BatchNorm) -> nn.BatchNorm1d:
    other = nn.BatchNorm1d(norm.num_features, norm.eps, norm.momentum)
    other.load_state_dict(copy.deepcopy(norm.state_dict()))
    return other
