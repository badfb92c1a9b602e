# SPDX-License-Identifier: Apache-2.0
"""Layers over sparse tensors, usable in torch.nn.Sequential."""

from pcperc.foreign_names import layer_for, lead_on
from pcperc.nn.activation import (
    ELU,
    GELU,
    SELU,
    Dropout,
    Hardswish,
    LeakyReLU,
    Linear,
    LogSoftmax,
    Mish,
    OnFeats,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from pcperc.nn.capture import capture
from pcperc.nn.capture_dense import capture_dense
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
from pcperc.nn.interpolate import Interpolate
from pcperc.nn.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RowBatchNorm
from pcperc.nn.point_voxel import point_to_voxel, voxel_to_point
from pcperc.nn.pool import (
    GlobalPool,
    SparseAvgPool1d,
    SparseAvgPool2d,
    SparseAvgPool3d,
    SparseAvgPool4d,
    SparseMaxPool1d,
    SparseMaxPool2d,
    SparseMaxPool3d,
    SparseMaxPool4d,
    SparseSumPool1d,
    SparseSumPool2d,
    SparseSumPool3d,
    SparseSumPool4d,
)
from pcperc.nn.pv_conv import PVConv, SqueezeExcite3d
from pcperc.nn.recalibrate import recalibrate_batch_norm
from pcperc.nn.residual import ConvBlock, ResidualBlock
from pcperc.nn.set_abstraction import FeaturePropagation, GlobalAbstraction, SetAbstraction
from pcperc.nn.shared_mlp import SharedMLP
from pcperc.nn.squeeze_excite import SqueezeExcite
from pcperc.nn.sync_norm import SyncBatchNorm, convert_sync_batchnorm
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
from pcperc.nn.unpool import (
    SparseMaxUnpool1d,
    SparseMaxUnpool2d,
    SparseMaxUnpool3d,
    SparseMaxUnpool4d,
    SparseUnpool1d,
    SparseUnpool2d,
    SparseUnpool3d,
    SparseUnpool4d,
)

__all__ = [
    "BatchNorm",
    "ConvBlock",
    "Dropout",
    "ELU",
    "FeaturePropagation",
    "GELU",
    "GlobalAbstraction",
    "GlobalPool",
    "GroupNorm",
    "Hardswish",
    "InstanceNorm",
    "Interpolate",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Mish",
    "OnFeats",
    "PReLU",
    "PVConv",
    "ReLU",
    "ReLU6",
    "ResidualBlock",
    "RowBatchNorm",
    "SELU",
    "SetAbstraction",
    "SharedMLP",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "SparseAvgPool1d",
    "SparseAvgPool2d",
    "SparseAvgPool3d",
    "SparseAvgPool4d",
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
    "SparseMaxPool1d",
    "SparseMaxPool2d",
    "SparseMaxPool3d",
    "SparseMaxPool4d",
    "SparseMaxUnpool1d",
    "SparseMaxUnpool2d",
    "SparseMaxUnpool3d",
    "SparseMaxUnpool4d",
    "SparseSumPool1d",
    "SparseSumPool2d",
    "SparseSumPool3d",
    "SparseSumPool4d",
    "SparseUnpool1d",
    "SparseUnpool2d",
    "SparseUnpool3d",
    "SparseUnpool4d",
    "SqueezeExcite",
    "SqueezeExcite3d",
    "SubMConv1d",
    "SubMConv2d",
    "SubMConv3d",
    "SubMConv4d",
    "SyncBatchNorm",
    "Tanh",
    "convert_sync_batchnorm",
    "capture",
    "capture_dense",
    "fuse",
    "point_to_voxel",
    "recalibrate_batch_norm",
    "voxel_to_point",
]


def __getattr__(name: str):
    """Lead on who looks for a layer of another library."""
    answer = layer_for(name)
    if answer is None:
        called = f"{__name__}.{name}"
        raise AttributeError(f"{called}: no such name")
    lead_on(__name__, name, answer, kind="layer")
