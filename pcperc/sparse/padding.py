# SPDX-License-Identifier: Apache-2.0
"""Sparse tensors and points over a given number of rows, so that a network is the same work for every cloud."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from pcperc.ops._checks import positive_int
from pcperc.sparse.kernel_map_cache import KernelMapCache
from pcperc.sparse.point_place import PointPlace
from pcperc.sparse.point_tensor import PointTensor
from pcperc.sparse.sparse_tensor import SparseTensor
from pcperc.sparse.topology import Topology

PADDING = -1  # batch index of a row that is no voxel, or no point
Rows = TypeVar("Rows", SparseTensor, PointTensor)


def pad(x: Rows, capacity: int, *, capacities: Sequence[int] = ()) -> Rows:
    """Put rows of padding behind the voxels or points: they have no neighbours and are nobody's.

    Layers then compute, at the voxels and points, what they compute without padding. Features of padding are of no
    meaning: batch norm in training would count them. ``x[:]`` of a sparse tensor is without padding again.

    Args:
        x: M voxels, known to be distinct, or M points.
        capacity: rows of the result, >= M.
        capacities: rows of the new topologies, as `new_rows` lists them.
    Returns:
        A tensor of the same kind with kernel maps of its own.
    Raises:
        ValueError: capacity is below M.
    """
    capacity = positive_int("pad", "capacity", capacity)
    if capacity < len(x):
        kind = "points" if isinstance(x, PointTensor) else "voxels"
        raise ValueError(f"pad: capacity must be at least the {len(x)} {kind}, got {capacity}")
    rows = capacity - len(x)
    coords = torch.cat([x.coords, x.coords.new_full((rows, x.coords.shape[1]), PADDING)])
    feats = torch.cat([x.feats, x.feats.new_zeros(rows, x.num_channels)])
    return padded_like(x, coords, feats, capacities)


def padded_like(x: Rows, coords: Tensor, feats: Tensor, capacities: Sequence[int]) -> Rows:
    """Rows that may be padding, of the kind and on the lattice of ``x``; nothing looks at their values."""
    if isinstance(x, PointTensor):
        return PointTensor.on_place(PointPlace(coords, x.batch_size, capacities=capacities), feats)
    lattice = x.batch_size, x.spatial_shape, x.tensor_stride
    topology = Topology(coords, *lattice, made_by_operator=True, is_padded=True)
    return SparseTensor.on_topology(topology, feats, KernelMapCache(capacities))


def with_own_cache(x: Rows) -> Rows:
    """The same tensor, of which nothing is known yet."""
    if isinstance(x, PointTensor):
        return PointTensor.on_place(PointPlace(x.coords, x.batch_size, x.points_per_cloud), x.feats)
    return SparseTensor.on_topology(x.topology, x.feats, KernelMapCache())


def new_rows(x: Rows) -> list[int]:
    """Rows of the topologies that a pass made: those that hold the points, then each step down in their order."""
    rows = x.kernel_maps.downsampled_rows
    return [x.place.most_voxels, *rows] if isinstance(x, PointTensor) else rows
