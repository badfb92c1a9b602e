# SPDX-License-Identifier: Apache-2.0
"""Features on a sparse lattice of voxels."""

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from pcperc import ops
from pcperc.foreign_names import ATTRIBUTES
from pcperc.ops._checks import (
    FLOAT_DTYPES,
    check_coords,
    check_same_device,
    check_tensor,
    describe,
    positive_int,
    to_tuple,
)
from pcperc.sparse._checks import check_batch_size, check_bounds, check_feats, check_habits
from pcperc.sparse.arguments import DENSE, NEW_SPARSE, REPLACE, refuse_call, tells_arguments
from pcperc.sparse.arithmetic import Arithmetic
from pcperc.sparse.batch_items import BatchItems
from pcperc.sparse.hints import Hints
from pcperc.sparse.interop import Interop
from pcperc.sparse.kernel_map_cache import KernelMapCache
from pcperc.sparse.placement import Placement
from pcperc.sparse.topology import Topology, to_spacing

Spacing = int | Fraction


class SparseTensor(Arithmetic, BatchItems, Placement, Interop, Hints, foreign=ATTRIBUTES):
    """Features of the voxels of a batch of clouds. The voxels never change; features change by :meth:`replace`.

    The first column of ``coords`` is the batch, also of a single cloud: (M, 3) coordinates are ``[batch, x, y]``, on a
    lattice of two axes. For x, y, z alone put zeros in front: ``torch.nn.functional.pad(xyz, (1, 0))``.

    ``x + y``, ``x * 2``, ``-x`` work on features where the voxels are the same; ``x[i]``, ``x[1:3]`` and ``for item in
    x`` go over the clouds of the batch; ``len(x)`` is the number of voxels.

    Args:
        coords: (M, 1 + D) int32 ``[batch, x, y, z]`` for D = 3, with D from 1 to 4; distinct rows in any order, which
            is kept. x, y, z may be negative on an unbounded lattice. Bounds are checked at once, a wait for the GPU.
        feats: (M, C) float64, float32, float16 or bfloat16, on the same device.
        batch_size: number of clouds, 1 to 1023 (255 for D = 4); None reads it from ``coords`` (0 where M is 0).
        spatial_shape: (X, Y, Z), or one number for all axes; indices then run from 0. None is an unbounded lattice.
        tensor_stride: cells of the network's input lattice per cell of this one, one number or one for each axis: whole
            numbers, or fractions.Fraction on a finer lattice.
        kernel_maps: cache to share with other tensors of the same pass; a new one if None.
    Raises:
        TypeError: not tensors, a size that is no whole number, or kernel_maps of another type; other arguments, such
            as another library's, end in what to write.
        ValueError: wrong shape, dtype or device; a row outside the batch or ``spatial_shape`` (the first is named).
            Repeated rows are found by the first layer or function that needs distinct ones.
    """

    @tells_arguments(write=NEW_SPARSE)
    def __init__(
        self,
        coords: Tensor,
        feats: Tensor,
        batch_size: int | None = None,
        *,
        spatial_shape: int | Sequence[int] | None = None,
        tensor_stride: Spacing | Sequence[Spacing] = 1,
        kernel_maps: KernelMapCache | None = None,
    ):
        try:
            check_coords("SparseTensor", "coords", coords)
            dims = coords.shape[1] - 1
            if spatial_shape is not None:
                spatial_shape = to_tuple("SparseTensor", "spatial_shape", spatial_shape, dims, low=1)
            tensor_stride = to_spacing(tensor_stride, dims)
        except ValueError:
            check_habits(coords, feats, spatial_shape=spatial_shape, tensor_stride=tensor_stride)
            raise
        is_traced = torch.compiler.is_compiling()
        extent = None if is_traced or not len(coords) else ops.coords_extent(coords)  # the one wait
        is_read = batch_size is None
        if is_read:
            if is_traced:
                raise ValueError("SparseTensor: batch_size must be given under torch.compile, got None")
            batch_size = 0 if extent is None else max(extent.highest[0] + 1, 0)
        else:
            batch_size = positive_int("SparseTensor", "batch_size", batch_size)
        check_batch_size("SparseTensor", batch_size, dims, is_read=is_read)
        check_feats("SparseTensor", coords, feats)
        check_bounds(coords, batch_size, spatial_shape, extent)
        if kernel_maps is not None and not isinstance(kernel_maps, KernelMapCache):
            raise TypeError(f"SparseTensor: kernel_maps must be a KernelMapCache or None, got {describe(kernel_maps)}")
        is_written = coords.is_contiguous() and not is_traced  # then the look at them waited
        self._topology = Topology(coords.contiguous(), batch_size, spatial_shape, tensor_stride, is_written=is_written)
        self._feats = feats
        self._kernel_maps = KernelMapCache() if kernel_maps is None else kernel_maps

    @classmethod
    def on_topology(
        cls, topology: Topology, feats: Tensor, kernel_maps: KernelMapCache, *, check: bool = True
    ) -> "SparseTensor":
        """Put features on voxels that exist already. For layers; ``feats`` is (M, C) with a row for each voxel.

        Args:
            check: False where an operator made them, one row for each column of a table of these voxels.
        """
        if check:
            check_feats("SparseTensor", topology.coords, feats)
        tensor = cls.__new__(cls)
        tensor._topology, tensor._feats, tensor._kernel_maps = topology, feats, kernel_maps
        return tensor

    @classmethod
    def from_dense(cls, grid: Tensor, *, mask: Tensor | None = None) -> "SparseTensor":
        """Take the cells of a dense grid that hold anything, sorted by key. Differentiable in ``grid``.

        Args:
            grid: (B, C, X, Y, Z) floating point, B >= 1.
            mask: (B, X, Y, Z) bool, the cells that become voxels; None takes those where any channel is not zero.
        Returns:
            SparseTensor with ``spatial_shape`` (X, Y, Z); :meth:`dense` gives ``grid`` back, zero outside ``mask``.
        Raises:
            TypeError, ValueError: wrong type, shape, dtype or device.
        """
        check_tensor("SparseTensor.from_dense", "grid", grid)
        if not 3 <= grid.ndim <= 6 or grid.dtype not in FLOAT_DTYPES:
            raise ValueError(
                f"SparseTensor.from_dense: grid must be (B, C, X, ...) floating point with 1 to 4 spatial axes, "
                f"got {describe(grid)}"
            )
        shape = (grid.shape[0], *grid.shape[2:])
        if mask is None:
            mask = (grid != 0).any(1)
        check_tensor("SparseTensor.from_dense", "mask", mask)
        if mask.shape != shape or mask.dtype != torch.bool:
            raise ValueError(f"SparseTensor.from_dense: mask must be {shape} bool, got {describe(mask)}")
        check_same_device("SparseTensor.from_dense", grid=grid, mask=mask)
        cells = mask.nonzero()
        return cls(cells.int(), grid.movedim(1, -1)[cells.unbind(1)], shape[0], spatial_shape=shape[1:])

    def replace(self, *given: object, feats: Tensor | None = None, **others: object) -> "SparseTensor":
        """Return a tensor with the same voxels, in the same order, and other features (M, any).

        Called ``x.replace(feats=f)`` and no other way; what else is given ends in an error that says so.
        """
        if given or others:  # layers call this: a wrapper around it would cost them a tenth of a microsecond each
            refuse_call(self, "replace", REPLACE, given, others)
        topology, cls = self._topology, type(self)
        check_feats("SparseTensor", topology.coords, feats)
        tensor = cls.__new__(cls)  # as on_topology, without the call to it
        tensor._topology, tensor._feats, tensor._kernel_maps = topology, feats, self._kernel_maps
        return tensor

    @property
    def coords(self) -> Tensor:
        """(M, 1 + D) int32 ``[batch, x, y, z]`` in units of ``tensor_stride``."""
        return self._topology.coords

    @property
    def feats(self) -> Tensor:
        """(M, C)."""
        return self._feats

    @property
    def num_voxels(self) -> int:
        return self._feats.shape[0]

    @property
    def num_channels(self) -> int:
        return self._feats.shape[1]

    @property
    def batch_size(self) -> int:
        return self._topology.batch_size

    @property
    def dims(self) -> int:
        """Spatial axes D: 3 for x, y, z."""
        return self._topology.dims

    @property
    def spatial_shape(self) -> tuple[int, ...] | None:
        """(X, Y, Z), or None for an unbounded lattice."""
        return self._topology.spatial_shape

    @property
    def tensor_stride(self) -> tuple[Spacing, ...]:
        """Cells of the network's input lattice per cell of this one, for each axis; Fractions on finer ones."""
        return self._topology.tensor_stride

    @property
    def topology(self) -> Topology:
        """The voxels as a value; tensors with the same one have the same rows."""
        return self._topology

    @property
    def kernel_maps(self) -> KernelMapCache:
        return self._kernel_maps

    def __len__(self) -> int:
        """Number of voxels M."""
        return self.num_voxels

    def size(self) -> torch.Size:
        """Size of :meth:`dense`: (B, C, X, Y, Z).

        Raises:
            ValueError: the lattice is unbounded.
        """
        if self.spatial_shape is None:
            raise ValueError("SparseTensor.size: needs a spatial_shape, got an unbounded lattice")
        return torch.Size((self.batch_size, self.num_channels, *self.spatial_shape))

    @tells_arguments(write=DENSE)
    def dense(self) -> Tensor:
        """Return (B, C, X, Y, Z) with zeros where there is no voxel. Differentiable in the features.

        Raises:
            ValueError: the lattice is unbounded, or a voxel occurs twice (looked at once for all tensors on it).
        """
        if self.spatial_shape is None:
            raise ValueError("SparseTensor.dense: needs a spatial_shape, got an unbounded lattice")
        self._topology.require_distinct("SparseTensor.dense")
        coords, shape = self.coords.long(), self.size()
        if self._topology.is_padded:  # padding goes into an item of its own, behind the others
            padding = coords[:, 0] < 0
            coords = coords.masked_fill(padding[:, None], 0)
            coords[:, 0].masked_fill_(padding, self.batch_size)
            shape = torch.Size((self.batch_size + 1, *shape[1:]))
        batch, *axes = coords.unbind(1)
        cells = torch.zeros_like(batch)
        for size, index in zip(self.spatial_shape, axes, strict=True):
            cells = cells * size + index
        grid = self.feats.new_zeros(shape).flatten(2)
        grid[batch, :, cells] = self.feats
        return grid[: self.batch_size].view(self.size())

    def __repr__(self) -> str:
        stride = f"({', '.join(map(str, self.tensor_stride))})"
        return (
            f"SparseTensor(num_voxels={self.num_voxels}, num_channels={self.num_channels}, "
            f"batch_size={self.batch_size}, tensor_stride={stride}, spatial_shape={self.spatial_shape}, "
            f"dtype={str(self.dtype).removeprefix('torch.')}, device={self.device})"
        )
