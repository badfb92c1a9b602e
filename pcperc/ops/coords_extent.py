# SPDX-License-Identifier: Apache-2.0
"""Between which values coordinates lie."""

from typing import NamedTuple

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import check_coords


class CoordsExtent(NamedTuple):
    """Result of :func:`coords_extent`."""

    lowest: list[int]  # of each column, batch index first
    highest: list[int]


def coords_extent(coords: Tensor) -> CoordsExtent:
    """Find the lowest and the highest value of each column, which on a GPU takes one launch and one wait.

    Args:
        coords: (N, 1 + D) int32 with D from 1 to 4, N >= 1; any values.
    Raises:
        TypeError: not a tensor.
        ValueError: wrong shape or dtype, or no row.
    Not for torch.compile: numbers of the CPU come out.
    """
    check_coords("coords_extent", "coords", coords)
    if coords.shape[0] == 0:
        raise ValueError("coords_extent: coords must have at least one row, got none")
    values = torch.ops.pcperc.coords_extent(coords)
    return CoordsExtent(values[: coords.shape[1]], values[coords.shape[1] :])
