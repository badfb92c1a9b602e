# SPDX-License-Identifier: Apache-2.0
"""Pooling of sparse tensors over windows, in 1 to 4 dimensions, and over whole clouds."""

import torch
from torch import Tensor, nn

from pcperc import ops
from pcperc.nn._checks import TellsArguments, check_input
from pcperc.nn.conv_base import PerAxis
from pcperc.ops._checks import REDUCTIONS, check_choice, to_tuple
from pcperc.sparse import KernelMap, SparseTensor


class OverWindows(TellsArguments, nn.Module):
    """What layers over the windows of a kernel share."""

    dims: int  # number of spatial axes D

    def _per_axis(self, argument: str, value: PerAxis, *, low: int) -> tuple[int, ...]:
        return to_tuple(type(self).__name__, argument, value, self.dims, low=low)


class SparsePool(OverWindows):
    """Reduction of the voxels under each window, with an output wherever a window holds a voxel; sorted by key.

    Sizes follow ``torch.nn.MaxPool3d`` without ``ceil_mode``. The layer uses the kernel map of a convolution of the
    same geometry, so that ``SparseInverseConv`` and ``SparseUnpool`` find the way back.

    Args:
        kernel_size, padding, dilation: one number for all axes or one each.
        stride: likewise; None is kernel_size, as in torch.
    Shape: SparseTensor with (N, C) features to one with (M, C) and ``tensor_stride`` times stride; M may be 0.
    Raises:
        TypeError, ValueError: an argument, or an input of other dimensions; a kernel larger than the padded
            ``spatial_shape``; repeated coords.
    """

    mode: str

    def __init__(
        self, kernel_size: PerAxis, stride: PerAxis | None = None, padding: PerAxis = 0, dilation: PerAxis = 1
    ):
        super().__init__()
        self.kernel_size = self._per_axis("kernel_size", kernel_size, low=1)
        self.stride = self.kernel_size if stride is None else self._per_axis("stride", stride, low=1)
        self.padding = self._per_axis("padding", padding, low=0)
        self.dilation = self._per_axis("dilation", dilation, low=1)

    def kernel_map(self, x: SparseTensor) -> KernelMap:
        """Return the kernel map along which this layer pools ``x``; raise where ``x`` does not fit."""
        check_input(self, x, dims=self.dims)
        geometry = {name: getattr(self, name) for name in ("kernel_size", "stride", "padding", "dilation")}
        return x.kernel_maps.downsampled(x.topology, **geometry, op=type(self).__name__)

    def forward(self, x: SparseTensor) -> SparseTensor:
        kernel_map = self.kernel_map(x)
        feats = ops.sparse_pool(x.feats, kernel_map.neighbors, way_back(x, kernel_map), mode=self.mode)
        return SparseTensor.on_topology(kernel_map.target, feats, x.kernel_maps)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}"


class SparseMaxPool(SparsePool):
    """:class:`SparsePool` with the maximum: on a tensor that is full everywhere ``torch.nn.MaxPool3d``.

    With ``return_indices`` the layer returns, beside the tensor, (M, C) int32 rows of the input that hold the maxima,
    for :class:`SparseMaxUnpool`.
    """

    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        padding: PerAxis = 0,
        dilation: PerAxis = 1,
        return_indices: bool = False,
    ):
        super().__init__(kernel_size, stride, padding, dilation)
        self.return_indices = return_indices

    def forward(self, x: SparseTensor) -> SparseTensor | tuple[SparseTensor, Tensor]:
        kernel_map = self.kernel_map(x)
        feats, rows = ops.sparse_max_pool(x.feats, kernel_map.neighbors, way_back(x, kernel_map))
        y = SparseTensor.on_topology(kernel_map.target, feats, x.kernel_maps)
        return (y, rows) if self.return_indices else y


class SparseAvgPool(SparsePool):
    """:class:`SparsePool` with the mean of the voxels that are there.

    On a tensor that is full everywhere it equals ``torch.nn.AvgPool3d`` with ``count_include_pad=False``.
    """

    mode = "mean"


class SparseSumPool(SparsePool):
    """:class:`SparsePool` with the sum."""

    mode = "sum"


class GlobalPool(nn.Module):
    """Reduction of all voxels of each batch item to one row.

    Args:
        mode: "max", "mean" or "sum".
    Shape: SparseTensor with (M, C) features in any order of rows to a tensor (B, C); an item without voxels gives 0.
    Raises:
        TypeError: not a SparseTensor.
        ValueError: mode.
    """

    def __init__(self, mode: str):
        super().__init__()
        check_choice("GlobalPool", "mode", mode, REDUCTIONS)
        self.mode = mode

    def forward(self, x: SparseTensor) -> Tensor:
        check_input(self, x)
        return ops.segment_reduce(x.feats, x.kernel_maps.batch_segments(x.topology), mode=self.mode)

    def extra_repr(self) -> str:
        return self.mode


def way_back(x: SparseTensor, kernel_map: KernelMap) -> Tensor | None:
    """The table of the gradient, where there will be one."""
    return kernel_map.reverse_neighbors if torch.is_grad_enabled() and x.feats.requires_grad else None


class SparseMaxPool1d(SparseMaxPool):
    """:class:`SparseMaxPool` over coords (M, 2) ``[batch, x]``."""

    dims = 1


class SparseMaxPool2d(SparseMaxPool):
    """:class:`SparseMaxPool` over coords (M, 3) ``[batch, x, y]``."""

    dims = 2


class SparseMaxPool3d(SparseMaxPool):
    """:class:`SparseMaxPool` over coords (M, 4) ``[batch, x, y, z]``."""

    dims = 3


class SparseMaxPool4d(SparseMaxPool):
    """:class:`SparseMaxPool` over coords (M, 5) ``[batch, x, y, z, t]``."""

    dims = 4


class SparseAvgPool1d(SparseAvgPool):
    """:class:`SparseAvgPool` over coords (M, 2) ``[batch, x]``."""

    dims = 1


class SparseAvgPool2d(SparseAvgPool):
    """:class:`SparseAvgPool` over coords (M, 3) ``[batch, x, y]``."""

    dims = 2


class SparseAvgPool3d(SparseAvgPool):
    """:class:`SparseAvgPool` over coords (M, 4) ``[batch, x, y, z]``."""

    dims = 3


class SparseAvgPool4d(SparseAvgPool):
    """:class:`SparseAvgPool` over coords (M, 5) ``[batch, x, y, z, t]``."""

    dims = 4


class SparseSumPool1d(SparseSumPool):
    """:class:`SparseSumPool` over coords (M, 2) ``[batch, x]``."""

    dims = 1


class SparseSumPool2d(SparseSumPool):
    """:class:`SparseSumPool` over coords (M, 3) ``[batch, x, y]``."""

    dims = 2


class SparseSumPool3d(SparseSumPool):
    """:class:`SparseSumPool` over coords (M, 4) ``[batch, x, y, z]``."""

    dims = 3


class SparseSumPool4d(SparseSumPool):
    """:class:`SparseSumPool` over coords (M, 5) ``[batch, x, y, z, t]``."""

    dims = 4
