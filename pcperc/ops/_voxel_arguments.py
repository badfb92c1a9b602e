# SPDX-License-Identifier: Apache-2.0
"""Checks of what voxelization takes: the grid, and the batch index of each point."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pcperc.ops._checks import check_same_device, check_tensor, describe, floats, positive_int

MAX_GRID = 1 << 17  # coordinates of the sparse backend are 18 bits signed
MAX_BATCH = 1023


def voxel_grid(
    op: str, voxel_size: Sequence[float], point_range: Sequence[float]
) -> tuple[list[float], list[float], list[float], tuple[int, int, int]]:
    """Voxel size, lower bounds, upper bounds and shape of the grid."""
    size = floats(op, "voxel_size", voxel_size, 3)
    bounds = floats(op, "point_range", point_range, 6)
    lower, upper = bounds[:3], bounds[3:]
    if min(size) <= 0:
        raise ValueError(f"{op}: voxel_size must be > 0, got {size}")
    if any(low >= high for low, high in zip(lower, upper, strict=True)):
        raise ValueError(f"{op}: point_range must be (x0, y0, z0, x1, y1, z1) with lower < upper, got {bounds}")
    shape = tuple(
        max(1, math.ceil((high - low) / edge - 1e-4)) for low, high, edge in zip(lower, upper, size, strict=True)
    )
    if max(shape) > MAX_GRID:
        raise ValueError(f"{op}: point_range / voxel_size must be at most {MAX_GRID} voxels an axis, got {shape}")
    return size, lower, upper, shape


def as_batch_index(
    op: str, points: Tensor, batch_index: Tensor | None, batch_size: int | None, look: bool
) -> tuple[Tensor | None, int]:
    """Return batch_index as contiguous int32, and the batch size."""
    if batch_size is not None:
        positive_int(op, "batch_size", batch_size)
        if batch_size > MAX_BATCH:
            raise ValueError(f"{op}: batch_size must be at most {MAX_BATCH}, got {batch_size}")
    if batch_index is None:
        if batch_size not in (None, 1):
            raise ValueError(f"{op}: batch_index must be given for a batch_size of {batch_size}, got None")
        return None, 1
    check_tensor(op, "batch_index", batch_index)
    if batch_index.shape != points.shape[:1] or batch_index.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"{op}: batch_index must be ({points.shape[0]},) int32 or int64, got {describe(batch_index)}")
    check_same_device(op, points=points, batch_index=batch_index)
    if torch.compiler.is_compiling() or not look:  # a look would break the graph; the kernel drops rows out of range
        if batch_size is None:
            unless = "under torch.compile" if look else "without check_batch_index"
            raise ValueError(f"{op}: batch_size must be given {unless}, got None")
    else:
        batch_size = _check_batch_values(op, batch_index, batch_size)
    return batch_index.clamp(-1, MAX_BATCH).int().contiguous(), batch_size  # int32 must not wrap a traced value


def _check_batch_values(op: str, batch_index: Tensor, batch_size: int | None) -> int:
    """Require values in [0, batch_size); return the batch size."""
    if batch_index.numel() == 0:
        return batch_size or 1
    low, high = torch.stack(torch.aminmax(batch_index)).tolist()
    limit = batch_size or min(high + 1, MAX_BATCH)
    if low < 0 or high >= limit:
        bad = (batch_index < 0) | (batch_index >= limit)
        row = int(bad.nonzero()[0])
        raise ValueError(f"{op}: batch_index must be in [0, {limit}), got {int(batch_index[row])} in row {row}")
    return limit
