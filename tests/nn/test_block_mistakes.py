# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a block, or keeps a model from being fused, is named."""

import pytest
import torch

import pcperc.nn as spnn
from pcperc import SparseTensor
from tests.nn.blocks import voxels
from tests.ops.clouds import coords_of


def in_training():
    model = torch.nn.Sequential(spnn.ResidualBlock(4, 4)).eval()
    model[0].block2.norm.train()
    return model


def of_another_library():
    block = spnn.ResidualBlock(4, 4).eval()
    block.block1.conv.backend = "spconv"
    return block


def with_weight_norm():
    conv = torch.nn.utils.parametrizations.weight_norm(spnn.SubMConv3d(4, 4, 3), dim=4)
    return spnn.ConvBlock(conv, spnn.BatchNorm(4)).eval()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: spnn.fuse(with_weight_norm()), ValueError, "conv of model must have plain weights, got parametrized"),
        (lambda: spnn.fuse(in_training()), ValueError, r"model.eval\(\)\), got model.0.block2 in training mode"),
        (lambda: spnn.fuse(torch.nn.Linear(2, 2)), ValueError, 
         "model must contain a ConvBlock or a layer with its batch norm, got none in Linear"),
        (lambda: spnn.fuse(of_another_library()), ValueError,
         "conv of model.block1 must have backend None, got 'spconv'"),
        (lambda: spnn.fuse(spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3), spnn.GroupNorm(2, 4)).eval()), TypeError,
         "fuse: norm of model must be BatchNorm, SyncBatchNorm or None, got GroupNorm"),
        (lambda: spnn.fuse(spnn.ConvBlock(
            spnn.SubMConv3d(4, 4, 3), spnn.BatchNorm(4, track_running_stats=False)).eval()), ValueError,
         "must keep running statistics"),
        (lambda: spnn.fuse("model"), TypeError, "fuse: model must be a module, got str"),
        (lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3), spnn.ReLU), TypeError,
         "ConvBlock: norm must be a module or None, got type"),
        (lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3), None, torch.relu), TypeError,
         "ConvBlock: activation must be a module or None"),
        (lambda: spnn.ResidualBlock(4, 4, dims=5), ValueError, "ResidualBlock: dims must be 1, 2, 3 or 4, got 5"),
        (lambda: spnn.ResidualBlock(4, 4, dims=[3]), TypeError, "ResidualBlock: dims must be a whole number > 0"),
        (lambda: spnn.ConvBlock(torch.nn.Linear(4, 4)), TypeError, "conv must be a sparse convolution .* got Linear"),
        (lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3))(voxels(), voxels().feats), TypeError,
         "ConvBlock: residual must be a SparseTensor, got Tensor"),
        (lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3))(voxels(), voxels(channels=1)), ValueError,
         "ConvBlock: residual must have 4 channels, got 1"),
        (lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3))(
            voxels(), SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(1, 4))), ValueError,
         "ConvBlock: both must have the same voxels in the same order, got batch_size 2 and 1; a residual is added"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
