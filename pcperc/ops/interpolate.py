# SPDX-License-Identifier: Apache-2.0
"""The voxels around arbitrary points, and their weights, for ``weighted_gather``."""

import torch
from torch import Tensor

from pcperc.ops._checks import (
    check_choice,
    check_coords,
    check_float_matrix,
    check_same_device,
    describe,
    in_key_range,
)
from pcperc.ops.kernel_map import build_kernel_map
from pcperc.ops.weighted_gather import GatherPlan

INTERPOLATIONS = ("linear", "nearest")


def make_interpolation_plan(
    coords: Tensor, points: Tensor, *, mode: str = "linear", renormalize: bool = False, check: bool = True
) -> GatherPlan:
    """Find the voxels around each point and their weights.

    The value of a voxel sits at its index: a point ``[b, 3.0, 4.0, 5.0]`` reads voxel ``[b, 3, 4, 5]`` alone. A point
    in metres, of a cloud whose voxel is ``floor((p - lower) / voxel_size)`` and sits in the middle of its cell, is
    therefore at ``(p - lower) / voxel_size - 0.5``.

    Args:
        coords: (M, 1 + D) int32 ``[batch, x, y, z]`` for D = 3, distinct rows in any order.
        points: (P, 1 + D) float32 or float64 ``[batch, x, y, z]``, x, y, z in cells. Differentiable in mode "linear". A
            point that is not finite, or outside the batches or the range of coords, finds no voxel.
        mode: "nearest", the voxel at ``floor(xyz + 0.5)``; or "linear", the 2^D voxels around the point, weighted by
            the product over the axes of 1 - distance (bilinear for D = 2, trilinear for D = 3).
        renormalize: whether to divide the weights of a point by the sum of those whose voxel is there. Without it a
            missing voxel counts as one with value 0.
        check: as in :func:`build_kernel_map`: False where coords are known to be distinct and in range.
    Returns:
        GatherPlan with J = 1 ("nearest") or 2^D ("linear", last axis fastest), weights in the dtype of points.
    Raises:
        TypeError: not a tensor, or points not floating point.
        ValueError: wrong shape, dtype, device or mode; coords that are repeated or out of range (the first is named).
    Source: Liu, Tang, Lin and Han, "Point-Voxel CNN for Efficient 3D Deep Learning", NeurIPS 2019 (devoxelization).
    Deterministic: yes, the same rows on CPU and CUDA.
    """
    op = "make_interpolation_plan"
    check_coords(op, "coords", coords)
    columns = coords.shape[1]
    check_float_matrix(op, "points", points, columns=f"(P, {columns})", least=columns, exact=True)
    if points.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{op}: points must be float32 or float64, got {describe(points)}")
    check_choice(op, "mode", mode, INTERPOLATIONS)
    check_same_device(op, coords=coords, points=points)

    shift = 0.5 if mode == "nearest" else 0.0
    cells = torch.cat([points[:, :1] + 0.5, points[:, 1:] + shift], 1).detach().floor()
    inside = in_key_range(cells)
    cells = torch.where(inside[:, None], cells, 0)
    table = build_kernel_map(coords, cells.int(), kernel_size=1 if mode == "nearest" else 2, check=check)
    rows = torch.where(inside, table, -1).t().contiguous()
    if mode == "nearest":
        weights = torch.ones_like(points[:, :1])
    else:  # the offset of a point that finds no voxel is replaced before it is used, so that no NaN reaches a gradient
        weights = corner_weights(torch.where(inside[:, None], points - cells, 0)[:, 1:])
    if renormalize:
        present = torch.where(rows >= 0, weights, 0)
        total = present.sum(1, keepdim=True)
        weights = present / torch.where(total > 0, total, 1)
    return GatherPlan(rows, weights, coords.shape[0])


def corner_weights(offset: Tensor) -> Tensor:
    """(P, D) offsets in [0, 1) from the lowest corner to (P, 2^D) weights of the corners, last axis fastest."""
    weights = torch.ones_like(offset[:, :1])
    for axis in range(offset.shape[1]):
        part = torch.stack([1 - offset[:, axis], offset[:, axis]], 1)
        weights = (weights[:, :, None] * part[:, None, :]).flatten(1)
    return weights
