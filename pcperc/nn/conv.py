# SPDX-License-Identifier: Apache-2.0
"""Sparse convolutions of 1 to 4 dimensions, with torch's argument names and torch's meaning of them."""

import torch

from pcperc.nn._checks import check_input
from pcperc.nn.conv_base import PerAxis, SparseConvBase
from pcperc.ops.unique_coords import conv_output_shape
from pcperc.sparse import KernelMap, SparseTensor
from pcperc.sparse.topology import coarser


class SubMConv(SparseConvBase):
    """Submanifold convolution: the output has exactly the voxels of the input, in the same order.

    Padding is dilation * (kernel_size - 1) // 2, torch's ``padding="same"``: on a tensor that is full everywhere the
    layer equals ``torch.nn.Conv3d`` with it. An even kernel reaches one voxel further up than down.

    Args:
        in_channels, out_channels: channels, >= 1.
        kernel_size, dilation: one number for all axes or one each.
        groups: divides both channels; each group of output channels sees its group of input channels alone.
        bias: whether to add a learned bias.
        backend: None, or the library that computes it instead, see ``SparseConvBase``.
        device, dtype: of the parameters, as in torch's layers.
    Shape: SparseTensor with (M, in_channels) features to one with (M, out_channels); M may be 0.
    Raises:
        TypeError, ValueError: an argument, or an input of other channels or dimensions; repeated coords.
    Source: Graham, Engelcke, van der Maaten, "3D Semantic Segmentation with Submanifold Sparse Convolutional Networks",
        CVPR 2018, section 3.
    """

    _shown = ("dilation",)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        *,
        dilation: PerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        kernel_size = self._per_axis("kernel_size", kernel_size, low=1)
        dilation = self._per_axis("dilation", dilation, low=1)
        padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel_size, strict=True))
        options = dict(padding=padding, dilation=dilation, groups=groups, bias=bias, backend=backend)
        super().__init__(in_channels, out_channels, kernel_size, **options, device=device, dtype=dtype)

    def kernel_map(self, x: SparseTensor) -> KernelMap:
        check_input(self, x, channels=self.in_channels, dims=self.dims)
        voxels = x.topology
        return x.kernel_maps.between(
            voxels,
            voxels,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )


class SparseConv(SparseConvBase):
    """Convolution with an output voxel wherever an input voxel lies under the kernel; new voxels are sorted by key.

    The sizes follow ``torch.nn.Conv3d``: on a tensor that is full everywhere the two are equal. Kernels may be even.
    ``conv(x, target=y)`` gives the outputs at the voxels of ``y`` instead, in their order.

    Args:
        in_channels, out_channels: channels, >= 1.
        kernel_size, stride, padding, dilation: one number for all axes or one each.
        groups: divides both channels; each group of output channels sees its group of input channels alone.
        bias: whether to add a learned bias (to the output voxels only).
        backend: None, or the library that computes it instead, see ``SparseConvBase``.
        device, dtype: of the parameters, as in torch's layers.
    Shape: SparseTensor with (N, in_channels) features to one with (M, out_channels) and ``tensor_stride`` times stride;
        M may be 0. ``target``: SparseTensor of the same batch_size, on the lattice of the output.
    Raises:
        TypeError, ValueError: an argument, or an input of other channels or dimensions; a kernel larger than the padded
            ``spatial_shape``; a target on another lattice; repeated coords.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: PerAxis = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias, backend=backend)
        super().__init__(in_channels, out_channels, kernel_size, **options, device=device, dtype=dtype)

    def kernel_map(self, x: SparseTensor, target: SparseTensor | None = None) -> KernelMap:
        check_input(self, x, channels=self.in_channels, dims=self.dims)
        if target is None:
            return x.kernel_maps.downsampled(x.topology, **self.geometry, op=type(self).__name__)
        self._check_target(x, target, tensor_stride=coarser(x.tensor_stride, self.stride))
        if x.spatial_shape is not None and target.spatial_shape is not None:
            shape = conv_output_shape(x.spatial_shape, *self.geometry.values())
            self._check_target_shape(target, shape, shape)
        return x.kernel_maps.between(x.topology, target.topology, **self.geometry)

    def forward(self, x: SparseTensor, target: SparseTensor | None = None) -> SparseTensor:
        return self._convolve(x, self.kernel_map(x, target))


class SubMConv1d(SubMConv):
    """:class:`SubMConv` over coords (M, 2) ``[batch, x]``."""

    dims = 1


class SubMConv2d(SubMConv):
    """:class:`SubMConv` over coords (M, 3) ``[batch, x, y]``."""

    dims = 2


class SubMConv3d(SubMConv):
    """:class:`SubMConv` over coords (M, 4) ``[batch, x, y, z]``."""

    dims = 3


class SubMConv4d(SubMConv):
    """:class:`SubMConv` over coords (M, 5) ``[batch, x, y, z, t]``."""

    dims = 4


class SparseConv1d(SparseConv):
    """:class:`SparseConv` over coords (M, 2) ``[batch, x]``."""

    dims = 1


class SparseConv2d(SparseConv):
    """:class:`SparseConv` over coords (M, 3) ``[batch, x, y]``."""

    dims = 2


class SparseConv3d(SparseConv):
    """:class:`SparseConv` over coords (M, 4) ``[batch, x, y, z]``."""

    dims = 3


class SparseConv4d(SparseConv):
    """:class:`SparseConv` over coords (M, 5) ``[batch, x, y, z, t]``."""

    dims = 4
