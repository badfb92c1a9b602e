# SPDX-License-Identifier: Apache-2.0
"""Sparse tensors over a given number of rows, so that a network is the same work for every cloud."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcperc.ops._checks import positive_int
from pcperc.sparse.kernel_map_cache import KernelMapCache
from pcperc.sparse.sparse_tensor import SparseTensor
from pcperc.sparse.topology import Topology

PADDING = -1  # batch index of a row that is no voxel


def pad(x: SparseTensor, capacity: int, *, capacities: Sequence[int] = ()) -> SparseTensor:
    """Put rows of padding behind the voxels: they have no neighbours and are nobody's.

    Layers then compute, at the voxels, what they compute without padding. Features of padding are of no meaning: batch
    norm in training would count them. ``x[:]`` is without padding again.

    Args:
        x: M voxels, known to be distinct.
        capacity: rows of the result, >= M.
        capacities: rows of each topology that a step down makes from it, see ``KernelMapCache``.
    Returns:
        SparseTensor with kernel maps of its own.
    Raises:
        ValueError: capacity is below M.
    """
    capacity = positive_int("pad", "capacity", capacity)
    if capacity < len(x):
        raise ValueError(f"pad: capacity must be at least the {len(x)} voxels, got {capacity}")
    rows = capacity - len(x)
    coords = torch.cat([x.coords, x.coords.new_full((rows, x.coords.shape[1]), PADDING)])
    feats = torch.cat([x.feats, x.feats.new_zeros(rows, x.num_channels)])
    return padded_tensor(x.topology, coords, feats, capacities)


def padded_tensor(like: Topology, coords: Tensor, feats: Tensor, capacities: Sequence[int]) -> SparseTensor:
    """A sparse tensor of rows that may be padding, on the lattice of ``like``; nothing looks at their values."""
    topology = Topology(
        coords, like.batch_size, like.spatial_shape, like.tensor_stride, made_by_operator=True, is_padded=True
    )
    return SparseTensor.on_topology(topology, feats, KernelMapCache(capacities))
