# SPDX-License-Identifier: Apache-2.0
"""Sparse tensors and the kernel maps between them."""

from pcperc.sparse.kernel_map import KernelMap, KernelMapCache, Topology
from pcperc.sparse.sparse_tensor import SparseTensor

__all__ = ["KernelMap", "KernelMapCache", "SparseTensor", "Topology"]
