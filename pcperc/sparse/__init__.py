# SPDX-License-Identifier: Apache-2.0
"""Sparse tensors, the kernel maps between them, and the functions that join or thin them out."""

from pcperc.sparse.kernel_map import KernelMap
from pcperc.sparse.kernel_map_cache import KernelMapCache
from pcperc.sparse.point_tensor import PointTensor
from pcperc.sparse.sparse_tensor import SparseTensor
from pcperc.sparse.storage import load, save
from pcperc.sparse.topology import Topology
from pcperc.sparse.topology_ops import cat, collate, crop, prune, union

__all__ = [
    "KernelMap",
    "KernelMapCache",
    "PointTensor",
    "SparseTensor",
    "Topology",
    "cat",
    "collate",
    "crop",
    "load",
    "prune",
    "save",
    "union",
]
