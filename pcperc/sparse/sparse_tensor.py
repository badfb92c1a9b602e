# SPDX-License-Identifier: Apache-2.0
"""Features on a sparse lattice of voxels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcperc.ops._checks import (
    FLOAT_DTYPES,
    check_coords,
    check_same_device,
    check_tensor,
    describe,
    positive_int,
    to_triple,
)
from pcperc.sparse.kernel_map import KernelMapCache, Topology

_MAX_BATCH_SIZE = 1023


class SparseTensor:
    """Features of the voxels of a batch of clouds. The voxels never change; features change by :meth:`replace`.

    Args:
        coords: (M, 4) int32 ``[batch, x, y, z]``, distinct rows in any order, which is kept. x, y, z may be negative on
            an unbounded lattice. Its bounds are checked at once, a wait for the GPU.
        feats: (M, C) float64, float32, float16 or bfloat16, on the same device.
        batch_size: number of clouds, 1 to 1023; None reads it from ``coords`` (0 where M is 0).
        spatial_shape: (X, Y, Z), or one number for all three; indices then run from 0. None is an unbounded lattice.
        kernel_maps: cache to share with other tensors of the same pass; a new one if None.
    Raises:
        TypeError: not tensors, or a size that is no whole number.
        ValueError: wrong shape, dtype or device; a row outside the batch or ``spatial_shape`` (the first is named).
            Repeated rows are found by the first convolution.
    """

    def __init__(
        self,
        coords: Tensor,
        feats: Tensor,
        batch_size: int | None = None,
        *,
        spatial_shape: int | Sequence[int] | None = None,
        kernel_maps: KernelMapCache | None = None,
    ):
        check_coords("SparseTensor", "coords", coords)
        if spatial_shape is not None:
            spatial_shape = to_triple("SparseTensor", "spatial_shape", spatial_shape, low=1)
        if batch_size is None:
            batch_size = max(int(coords[:, 0].max()) + 1, 0) if len(coords) else 0
        else:
            positive_int("SparseTensor", "batch_size", batch_size)
        if batch_size > _MAX_BATCH_SIZE:
            raise ValueError(f"SparseTensor: batch_size must be in [1, {_MAX_BATCH_SIZE}], got {batch_size}")
        _check_feats(coords, feats)
        _check_bounds(coords, batch_size, spatial_shape)
        self._topology = Topology(coords.contiguous(), batch_size, spatial_shape, (1, 1, 1))
        self._feats = feats
        self._kernel_maps = KernelMapCache() if kernel_maps is None else kernel_maps

    @classmethod
    def on_topology(cls, topology: Topology, feats: Tensor, kernel_maps: KernelMapCache) -> "SparseTensor":
        """Put features on voxels that exist already. For layers; ``feats`` is (M, C) with a row for each voxel."""
        _check_feats(topology.coords, feats)
        tensor = cls.__new__(cls)
        tensor._topology, tensor._feats, tensor._kernel_maps = topology, feats, kernel_maps
        return tensor

    def replace(self, *, feats: Tensor) -> "SparseTensor":
        """Return a tensor with the same voxels, in the same order, and other features (M, any)."""
        return self.on_topology(self._topology, feats, self._kernel_maps)

    @property
    def coords(self) -> Tensor:
        """(M, 4) int32 ``[batch, x, y, z]`` in units of ``tensor_stride``."""
        return self._topology.coords

    @property
    def feats(self) -> Tensor:
        """(M, C)."""
        return self._feats

    @property
    def batch_size(self) -> int:
        return self._topology.batch_size

    @property
    def spatial_shape(self) -> tuple[int, int, int] | None:
        """(X, Y, Z), or None for an unbounded lattice."""
        return self._topology.spatial_shape

    @property
    def tensor_stride(self) -> tuple[int, int, int]:
        """Cells of the first tensor per cell of this one, for each axis."""
        return self._topology.tensor_stride

    @property
    def topology(self) -> Topology:
        """The voxels as a value; tensors with the same one have the same rows."""
        return self._topology

    @property
    def kernel_maps(self) -> KernelMapCache:
        return self._kernel_maps

    @property
    def device(self) -> torch.device:
        return self._feats.device

    @property
    def dtype(self) -> torch.dtype:
        return self._feats.dtype

    def __len__(self) -> int:
        """Number of voxels M."""
        return self.coords.shape[0]

    def dense(self) -> Tensor:
        """Return (B, C, X, Y, Z) with zeros where there is no voxel. Differentiable in the features.

        Raises:
            ValueError: the lattice is unbounded.
        """
        if self.spatial_shape is None:
            raise ValueError("SparseTensor.dense: needs a spatial_shape, got an unbounded lattice")
        size_x, size_y, size_z = self.spatial_shape
        channels = self.feats.shape[1]
        batch, x, y, z = self.coords.long().unbind(1)
        cells = (x * size_y + y) * size_z + z
        grid = self.feats.new_zeros(self.batch_size, channels, size_x * size_y * size_z)
        grid[batch, :, cells] = self.feats
        return grid.view(self.batch_size, channels, size_x, size_y, size_z)

    def __repr__(self) -> str:
        lattice = "unbounded" if self.spatial_shape is None else "x".join(map(str, self.spatial_shape))
        return (
            f"SparseTensor(M={len(self)}, C={self.feats.shape[1]}, batch_size={self.batch_size}, lattice={lattice}, "
            f"tensor_stride={self.tensor_stride}, dtype={str(self.dtype).removeprefix('torch.')}, device={self.device})"
        )


def _check_feats(coords: Tensor, feats: Tensor) -> None:
    check_tensor("SparseTensor", "feats", feats)
    if feats.ndim != 2 or feats.shape[0] != coords.shape[0] or feats.dtype not in FLOAT_DTYPES:
        raise ValueError(f"SparseTensor: feats must be ({coords.shape[0]}, C) floating point, got {describe(feats)}")
    check_same_device("SparseTensor", coords=coords, feats=feats)


def _check_bounds(coords: Tensor, batch_size: int, spatial_shape: tuple[int, int, int] | None) -> None:
    """Raise for the first row outside the batch or the bounded lattice."""
    outside = (coords[:, 0] < 0) | (coords[:, 0] >= batch_size)
    if spatial_shape is not None:
        limits = torch.tensor(spatial_shape, dtype=coords.dtype).to(coords.device, non_blocking=True)
        outside |= ((coords[:, 1:] < 0) | (coords[:, 1:] >= limits)).any(1)
    if outside.any():
        row = int(outside.int().argmax())
        raise ValueError(
            f"SparseTensor: coords row {row} = {coords[row].tolist()} is outside batch_size {batch_size}, "
            f"spatial_shape {spatial_shape}"
        )
