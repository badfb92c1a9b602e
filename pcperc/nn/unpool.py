# SPDX-License-Identifier: Apache-2.0
"""Unpooling in 1 to 4 dimensions: from the outputs of a strided layer back to the voxels that it started from."""

from torch import Tensor

from pcperc import ops
from pcperc.nn._checks import check_input
from pcperc.nn.conv_base import PerAxis
from pcperc.nn.pool import OverWindows, way_back
from pcperc.sparse import KernelMap, SparseTensor


class _ToSource(OverWindows):
    """Along the kernel map that made the input's voxels, back to the voxels that it started from."""

    def __init__(self, kernel_size: PerAxis):
        super().__init__()
        self.kernel_size = self._per_axis("kernel_size", kernel_size, low=1)

    def _map_back(self, x: SparseTensor) -> KernelMap:
        check_input(self, x, dims=self.dims)
        return x.kernel_maps.that_made(x.topology, kernel_size=self.kernel_size, op=type(self).__name__).inverse

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}"


class SparseUnpool(_ToSource):
    """Give each voxel that a strided layer started from the value of its output, the mean where it fed several.

    With the kernel_size and stride of a layer equal, every voxel has one output, and the layer is the nearest-neighbour
    upsampling ``torch.nn.Upsample(scale_factor=stride)`` of a full tensor. The kernel map is found through the tensor.

    Args:
        kernel_size: that of the convolution or pooling to undo, one number for all axes or one each.
    Shape: SparseTensor with (M, C) features to one with (N, C). A voxel that fed no output gets 0.
    Raises:
        TypeError, ValueError: an argument, or an input of other dimensions; none or more than one layer with this
            kernel size made the input's voxels.
    """

    def forward(self, x: SparseTensor) -> SparseTensor:
        kernel_map = self._map_back(x)
        feats = ops.sparse_pool(x.feats, kernel_map.neighbors, way_back(x, kernel_map), mode="mean")
        return SparseTensor.on_topology(kernel_map.target, feats, x.kernel_maps)


class SparseMaxUnpool(_ToSource):
    """Put each value back into the voxel that a :class:`SparseMaxPool` took as the maximum; the others get 0.

    ``unpool(x, indices)`` with the indices of ``SparseMaxPool(..., return_indices=True)``. Where windows overlap, the
    values of a voxel that was the maximum of several are added (``torch.nn.MaxUnpool3d`` keeps one of them).

    Args:
        kernel_size: that of the pooling to undo, one number for all axes or one each.
    Shape: SparseTensor with (M, C) features and (M, C) int32 indices to a SparseTensor with (N, C).
    Raises:
        TypeError, ValueError: an argument, or an input of other dimensions; indices of another shape; none or more than
            one layer with this kernel size made the input's voxels.
    """

    def forward(self, x: SparseTensor, indices: Tensor) -> SparseTensor:
        kernel_map = self._map_back(x)
        feats = ops.sparse_max_unpool(x.feats, indices, kernel_map.neighbors)
        return SparseTensor.on_topology(kernel_map.target, feats, x.kernel_maps)


class SparseUnpool1d(SparseUnpool):
    """:class:`SparseUnpool` over coords (M, 2) ``[batch, x]``."""

    dims = 1


class SparseUnpool2d(SparseUnpool):
    """:class:`SparseUnpool` over coords (M, 3) ``[batch, x, y]``."""

    dims = 2


class SparseUnpool3d(SparseUnpool):
    """:class:`SparseUnpool` over coords (M, 4) ``[batch, x, y, z]``."""

    dims = 3


class SparseUnpool4d(SparseUnpool):
    """:class:`SparseUnpool` over coords (M, 5) ``[batch, x, y, z, t]``."""

    dims = 4


class SparseMaxUnpool1d(SparseMaxUnpool):
    """:class:`SparseMaxUnpool` over coords (M, 2) ``[batch, x]``."""

    dims = 1


class SparseMaxUnpool2d(SparseMaxUnpool):
    """:class:`SparseMaxUnpool` over coords (M, 3) ``[batch, x, y]``."""

    dims = 2


class SparseMaxUnpool3d(SparseMaxUnpool):
    """:class:`SparseMaxUnpool` over coords (M, 4) ``[batch, x, y, z]``."""

    dims = 3


class SparseMaxUnpool4d(SparseMaxUnpool):
    """:class:`SparseMaxUnpool` over coords (M, 5) ``[batch, x, y, z, t]``."""

    dims = 4
