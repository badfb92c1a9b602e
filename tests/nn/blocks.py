# SPDX-License-Identifier: Apache-2.0
"""Blocks of every kind, batch norms that do something, and voxels for them."""

import torch
import torch.nn.functional as F

import pcperc.nn as spnn
from pcperc import SparseTensor
from tests.ops.clouds import random_coords


def voxels(channels=4, count=120, dtype=torch.float32, device="cpu"):
    coords = random_coords(count)
    return SparseTensor(coords.to(device), torch.randn(len(coords), channels, dtype=dtype, device=device), 2)


def randomised(module):
    """Give batch norms statistics and factors that do something."""
    for norm in module.modules():
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
            for values in (norm.running_mean, norm.weight, norm.bias):
                if values is not None:
                    torch.nn.init.normal_(values)
            norm.running_var.uniform_(0.5, 2)
    return module.eval()


def batch_norm(norm, feats):
    return F.batch_norm(feats, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0, norm.eps)


BLOCKS = {
    "relu": lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 6, 3, bias=False), spnn.BatchNorm(6), spnn.ReLU()),
    "conv_bias": lambda: spnn.ConvBlock(spnn.SparseConv3d(4, 6, 2, 2), spnn.BatchNorm(6), spnn.ReLU()),
    "leaky": lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 6, 3), spnn.BatchNorm(6), spnn.LeakyReLU(0.2)),
    "other_activation": lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 6, 3), spnn.BatchNorm(6), spnn.GELU()),
    "no_norm": lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 6, 3), None, spnn.ReLU()),
    "no_activation": lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 6, 3), spnn.BatchNorm(6)),
    "plain_norm": lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 6, 3, bias=False), spnn.BatchNorm(6, affine=False)),
    "residual": lambda: spnn.ResidualBlock(4, 4),
    "projection": lambda: spnn.ResidualBlock(4, 6),
    "sequential": lambda: torch.nn.Sequential(
        spnn.SubMConv3d(4, 6, 3, bias=False),
        spnn.BatchNorm(6),
        spnn.ReLU(),
        spnn.SparseConv3d(6, 4, 2, 2),
        spnn.LeakyReLU(0.2),
    ),
    "nested": lambda: torch.nn.Sequential(
        spnn.ConvBlock(spnn.SubMConv3d(4, 6, 3), spnn.BatchNorm(6), spnn.ReLU()), spnn.BatchNorm(6), spnn.Linear(6, 2)
    ),
}
