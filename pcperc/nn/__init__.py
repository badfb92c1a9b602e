# SPDX-License-Identifier: Apache-2.0
"""Layers over sparse tensors, usable in torch.nn.Sequential."""

from pcperc.nn.activation import GELU, Dropout, LeakyReLU, Linear, ReLU, Sigmoid, SiLU, Tanh
from pcperc.nn.conv import SparseConv3d, SubMConv3d
from pcperc.nn.fuse import fuse
from pcperc.nn.norm import BatchNorm
from pcperc.nn.residual import ConvBlock, ResidualBlock
from pcperc.nn.transposed_conv import SparseConvTranspose3d, SparseGenerativeConvTranspose3d, SparseInverseConv3d

__all__ = [
    "BatchNorm",
    "ConvBlock",
    "Dropout",
    "GELU",
    "LeakyReLU",
    "Linear",
    "ReLU",
    "ResidualBlock",
    "SiLU",
    "Sigmoid",
    "SparseConv3d",
    "SparseConvTranspose3d",
    "SparseGenerativeConvTranspose3d",
    "SparseInverseConv3d",
    "SubMConv3d",
    "Tanh",
    "fuse",
]
