# SPDX-License-Identifier: Apache-2.0
"""Points to voxels: with limits on points and voxels ("hard"), or the mean of all points of a voxel ("dynamic").

One rule for all: along each axis ``index = floor((p - lower) / voxel_size)``, computed in float32 whatever the dtype of
the points. A point is kept where ``lower <= p < upper`` and ``index < shape`` on all three axes; the last can fail
only for a point within one float32 rounding of ``upper``. Points with a NaN or infinite coordinate are dropped.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pcperc.ops._checks import check_float_matrix, positive_int
from pcperc.ops._voxel_arguments import as_batch_index, voxel_grid
from pcperc.ops.group_by_key import Groups, group_by_key


class HardVoxels(NamedTuple):
    """Result of :func:`voxelize_hard`."""

    coords: Tensor  # (M, 3) int32 [x, y, z], or (M, 4) int32 [batch, x, y, z] where batch_index was given
    voxels: Tensor  # (M, max_points, F), empty places are 0
    num_points: Tensor  # (M,) int32, points kept, 1 to max_points


class HardMeanVoxels(NamedTuple):
    """Result of :func:`voxelize_hard_mean`."""

    coords: Tensor  # as in HardVoxels
    feats: Tensor  # (M, F), mean over the points kept
    num_points: Tensor  # (M,) int32, points kept, 1 to max_points


class MeanVoxels(NamedTuple):
    """Result of :func:`voxelize_mean`."""

    coords: Tensor  # (M, 4) int32 [batch, x, y, z], sorted lexicographically
    feats: Tensor  # (M, F), mean over all points of the voxel
    point_to_voxel: Tensor  # (N,) int64, row of coords of each point, -1 where it was dropped


def voxel_grid_shape(voxel_size: Sequence[float], point_range: Sequence[float]) -> tuple[int, int, int]:
    """Number of voxels (X, Y, Z) that cover ``point_range`` (x0, y0, z0, x1, y1, z1), metres.

    A remainder of less than 1e-4 voxels is taken for rounding; a larger one adds a last voxel that sticks out of the
    range.

    Raises:
        ValueError: a size <= 0, an empty range, or more than 131072 voxels along an axis.
    """
    return voxel_grid("voxel_grid_shape", voxel_size, point_range)[3]


def voxelize_hard(
    points: Tensor,
    batch_index: Tensor | None = None,
    *,
    voxel_size: Sequence[float],
    point_range: Sequence[float],
    max_points: int,
    max_voxels: int,
    batch_size: int | None = None,
) -> HardVoxels:
    """Group points into voxels, keeping the first points of a voxel and the first voxels of a cloud.

    Voxels stand in the order of their first point, those of batch item 0 before those of item 1 and so on. A voxel
    keeps its first ``max_points`` points, a batch item its first ``max_voxels`` voxels. The voxel of a point is
    ``floor((xyz - lower bound) / voxel_size)``, computed in float32 whatever the dtype; points outside the range and
    points with a NaN or infinite coordinate are dropped.

    Args:
        points: (N, F) floating point, F >= 3, columns 0 to 2 are x, y, z in metres. Differentiable.
        batch_index: (N,) int32 or int64, batch item of each point in [0, batch_size), in any order; None: one cloud.
        voxel_size: edge lengths (x, y, z) in metres, > 0.
        point_range: (x0, y0, z0, x1, y1, z1) in metres; lower bounds belong to it, upper ones do not.
        max_points: points kept in a voxel.
        max_voxels: voxels kept in a batch item.
        batch_size: number of batch items; with batch_index None it is 1, and where not given it is max(batch_index) +
            1.

    Returns:
        HardVoxels; M = 0 where no point is in range.

    Raises:
        TypeError, ValueError: wrong shape, dtype or device, batch_index out of range, or limits that are not positive.

    Source: the hard voxelization of Zhou and Tuzel, VoxelNet, CVPR 2018, section 2.1.1, without its random sampling.
    Deterministic: yes; the same rows in the same order on CPU and CUDA.
    """
    op = "voxelize_hard"
    rows = _first_voxels(op, points, batch_index, voxel_size, point_range, max_points, max_voxels, batch_size)
    slots = torch.arange(max_points, device=points.device, dtype=torch.int32)
    filled = slots < rows.counts[:, None]
    entries = torch.where(filled, rows.starts[:, None] + slots, 0)
    voxels = points.index_select(0, rows.order.index_select(0, entries.flatten()))
    voxels = voxels.unflatten(0, entries.shape).masked_fill(~filled[:, :, None], 0)
    return HardVoxels(rows.coords, voxels, rows.counts)


def voxelize_hard_mean(
    points: Tensor,
    batch_index: Tensor | None = None,
    *,
    voxel_size: Sequence[float],
    point_range: Sequence[float],
    max_points: int,
    max_voxels: int,
    batch_size: int | None = None,
    check_batch_index: bool = True,
) -> HardMeanVoxels:
    """Mean of the points that :func:`voxelize_hard` keeps, without its (M, max_points, F) table.

    Arguments, order of voxels and errors are those of voxelize_hard. Sums run in float32 (float64 for float64
    points), in the order of the points; feats has the dtype of points. Differentiable in points. Deterministic on CPU
    and CUDA.

    Args:
        check_batch_index: look whether batch_index is in range, which makes a GPU wait. Without it batch_size must be
            given, and points of other batch items are dropped.
    """
    op = "voxelize_hard_mean"
    grid = voxel_size, point_range
    rows = _first_voxels(op, points, batch_index, *grid, max_points, max_voxels, batch_size, look=check_batch_index)
    feats = torch.ops.pcperc.segment_mean(points.contiguous(), rows.order, rows.starts, rows.counts)
    return HardMeanVoxels(rows.coords, feats, rows.counts)


def voxelize_mean(
    points: Tensor,
    batch_index: Tensor | None = None,
    *,
    voxel_size: Sequence[float],
    point_range: Sequence[float],
    batch_size: int | None = None,
) -> MeanVoxels:
    """Average the points of each voxel, without limits.

    Args:
        points: (N, F) floating point, F >= 3, columns 0 to 2 are x, y, z in metres. Differentiable in every column:
            the mean is, the choice of the voxel is not.
        batch_index, voxel_size, point_range, batch_size: as in voxelize_hard.

    Returns:
        MeanVoxels with feats in the dtype of points, summed in float32 (float64 for float64 points) in the order of
        the points. M = 0 where no point is in range.

    Raises:
        TypeError, ValueError: wrong shape, dtype or device, or batch_index out of range.

    Source: Liu et al., PVCNN, NeurIPS 2019, equation 2 (mean of the features of a voxel).
    Deterministic: yes, forward and backward; the same rows in the same order on CPU and CUDA.
    """
    groups, grid_shape, _ = _group_points("voxelize_mean", points, batch_index, voxel_size, point_range, batch_size)
    feats = torch.ops.pcperc.segment_mean(points.contiguous(), groups.order, groups.starts[:-1], groups.starts.diff())
    return MeanVoxels(torch.ops.pcperc.voxel_coords(groups.keys, grid_shape), feats, groups.inverse)


class _VoxelRows(NamedTuple):
    """Voxel m holds the points order[starts[m] : starts[m] + counts[m]]."""

    coords: Tensor  # (M, 3 or 4) int32
    order: Tensor  # (K,) int32
    starts: Tensor  # (M,) int32
    counts: Tensor  # (M,) int32


def _first_voxels(
    op: str,
    points: Tensor,
    batch_index: Tensor | None,
    voxel_size: Sequence[float],
    point_range: Sequence[float],
    max_points: int,
    max_voxels: int,
    batch_size: int | None,
    look: bool = True,
) -> _VoxelRows:
    """Voxels in the order of their first point, cut to the limits."""
    positive_int(op, "max_points", max_points)
    positive_int(op, "max_voxels", max_voxels)
    groups, grid_shape, batch_size = _group_points(op, points, batch_index, voxel_size, point_range, batch_size, look)
    starts = groups.starts[:-1]
    first_point = groups.order.index_select(0, starts).long()
    if batch_size == 1:
        chosen = torch.argsort(first_point)[:max_voxels]
    else:
        batch = torch.div(groups.keys, math.prod(grid_shape), rounding_mode="floor")
        chosen = torch.argsort(batch * points.shape[0] + first_point)
        batch = batch[chosen]
        first_of_item = torch.searchsorted(batch, torch.arange(batch_size, device=batch.device))
        rank = torch.arange(batch.shape[0], device=batch.device) - first_of_item[batch]
        chosen = chosen[rank < max_voxels]
    coords = torch.ops.pcperc.voxel_coords(groups.keys[chosen], grid_shape)
    counts = groups.starts.diff()[chosen].clamp(max=max_points)
    return _VoxelRows(
        coords[:, 1:].contiguous() if batch_index is None else coords, groups.order, starts[chosen], counts
    )


def _group_points(
    op: str,
    points: Tensor,
    batch_index: Tensor | None,
    voxel_size: Sequence[float],
    point_range: Sequence[float],
    batch_size: int | None,
    look: bool = True,
) -> tuple[Groups, tuple[int, int, int], int]:
    """Check the arguments and group the points by voxel; also the grid's shape and the batch size."""
    check_float_matrix(op, "points", points, columns="(N, F) with F >= 3", least=3)
    size, lower, upper, shape = voxel_grid(op, voxel_size, point_range)
    batch_index, batch_size = as_batch_index(op, points, batch_index, batch_size, look)
    keys = torch.ops.pcperc.voxel_keys(points.contiguous(), batch_index, lower, upper, size, shape, batch_size)
    return group_by_key(keys, num_keys=batch_size * math.prod(shape)), shape, batch_size


@torch.library.register_fake("pcperc::voxel_keys")
def _(points, batch_index, lower, upper, cell_size, grid_shape, batch_size):
    return points.new_empty(points.shape[0], dtype=torch.int64)


@torch.library.register_fake("pcperc::voxel_coords")
def _(keys, grid_shape):
    return keys.new_empty(keys.shape[0], 4, dtype=torch.int32)
