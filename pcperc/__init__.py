# SPDX-License-Identifier: Apache-2.0
"""Perception on sparse 3D point clouds, the same on CPU and GPU."""

from pcperc.sparse import PointTensor, SparseTensor, cat, collate, crop, load, prune, save, union

__version__ = "0.1.0"
__all__ = ["PointTensor", "SparseTensor", "cat", "collate", "crop", "load", "prune", "save", "union"]
