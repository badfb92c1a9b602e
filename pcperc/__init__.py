# SPDX-License-Identifier: Apache-2.0
"""Perception on sparse 3D point clouds, the same on CPU and GPU."""

import importlib

from pcperc.foreign_names import layer_for, lead_on
from pcperc.sparse import PointTensor, SparseTensor, cat, collate, crop, load, prune, save, union

__version__ = "0.1.0"
__all__ = ["PointTensor", "SparseTensor", "cat", "collate", "crop", "load", "prune", "save", "union"]


def __getattr__(name: str):
    """Lead on who looks for a layer, ours or another library's, at the top."""
    answer = layer_for(name)
    if answer is None and name[:1].isupper() and hasattr(importlib.import_module("pcperc.nn"), name):
        answer = f"pcperc.nn.{name}"
    if answer is None:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    lead_on(__name__, name, answer, kind="name")
