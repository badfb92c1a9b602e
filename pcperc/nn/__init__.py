# SPDX-License-Identifier: Apache-2.0
"""Layers over sparse tensors, usable in torch.nn.Sequential."""

from pcperc.nn.activation import GELU, Dropout, LeakyReLU, Linear, ReLU, Sigmoid, SiLU, Tanh
from pcperc.nn.conv import (
    SparseConv1d,
    SparseConv2d,
    SparseConv3d,
    SparseConv4d,
    SubMConv1d,
    SubMConv2d,
    SubMConv3d,
    SubMConv4d,
)
from pcperc.nn.fuse import fuse
from pcperc.nn.norm import BatchNorm
from pcperc.nn.residual import ConvBlock, ResidualBlock
from pcperc.nn.transposed_conv import (
    SparseConvTranspose1d,
    SparseConvTranspose2d,
    SparseConvTranspose3d,
    SparseConvTranspose4d,
    SparseGenerativeConvTranspose1d,
    SparseGenerativeConvTranspose2d,
    SparseGenerativeConvTranspose3d,
    SparseGenerativeConvTranspose4d,
    SparseInverseConv1d,
    SparseInverseConv2d,
    SparseInverseConv3d,
    SparseInverseConv4d,
)

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
    "SparseConv1d",
    "SparseConv2d",
    "SparseConv3d",
    "SparseConv4d",
    "SparseConvTranspose1d",
    "SparseConvTranspose2d",
    "SparseConvTranspose3d",
    "SparseConvTranspose4d",
    "SparseGenerativeConvTranspose1d",
    "SparseGenerativeConvTranspose2d",
    "SparseGenerativeConvTranspose3d",
    "SparseGenerativeConvTranspose4d",
    "SparseInverseConv1d",
    "SparseInverseConv2d",
    "SparseInverseConv3d",
    "SparseInverseConv4d",
    "SubMConv1d",
    "SubMConv2d",
    "SubMConv3d",
    "SubMConv4d",
    "Tanh",
    "fuse",
]
