# SPDX-License-Identifier: Apache-2.0
"""Argument checks that the sparse-convolution operators and layers share."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcperc.ops._checks import describe


def check_coords(op: str, name: str, coords: Tensor) -> None:
    """Raise unless ``coords`` is an (N, 4) int32 tensor."""
    if not isinstance(coords, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {describe(coords)}")
    if coords.ndim != 2 or coords.shape[1] != 4 or coords.dtype != torch.int32:
        raise ValueError(f"{op}: {name} must be (N, 4) int32 [batch, x, y, z], got {describe(coords)}")


def check_table(op: str, name: str, table: Tensor) -> None:
    """Raise unless ``table`` is a (K, M) int32 tensor."""
    if not isinstance(table, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {describe(table)}")
    if table.ndim != 2 or table.dtype != torch.int32:
        raise ValueError(f"{op}: {name} must be (K, M) int32, got {describe(table)}")


def to_triple(op: str, name: str, value: int | Sequence[int], *, low: int) -> tuple[int, int, int]:
    """Return one whole number for each axis; ``value`` is one for all axes or three.

    Raises:
        TypeError: not whole numbers.
        ValueError: not one or three of them, or one below ``low``.
    """
    values = (value,) * 3 if isinstance(value, int) else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(v, int) for v in values):
        raise TypeError(f"{op}: {name} must be an int or 3 ints, got {value!r}")
    if len(values) != 3 or min(values) < low:
        raise ValueError(f"{op}: {name} must be one or 3 values >= {low}, got {value!r}")
    return tuple(values)
