# SPDX-License-Identifier: Apache-2.0
"""The voxels around arbitrary points, and their weights, for ``weighted_gather``."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import (
    check_choice,
    check_coords,
    check_fake_devices,
    check_float_matrix,
    check_same_device,
    describe,
    plain,
    to_tuple,
)
from pcperc.ops.kernel_map import build_kernel_map
from pcperc.ops.weighted_gather import GatherPlan

INTERPOLATIONS = ("linear", "nearest")
POINT_DTYPES = (torch.float32, torch.float64)


def point_cells(
    points: Tensor,
    *,
    stride: int | Sequence[int] = 1,
    shift: float = 0.0,
    quantized: bool = False,
    padding: bool = True,
) -> Tensor:
    """Find the cell of a lattice that each point is in: ``floor(xyz / stride - shift)``.

    Args:
        points: (P, 1 + D) float32 or float64 ``[batch, x, y, z]`` for D = 3, with D from 1 to 4; the batch is the
            nearest whole number, of two the larger.
        stride: one whole number >= 1 for all axes or D of them.
        shift: in cells, finite; 0.5 has a cell reach from the middle of one voxel to the next.
        quantized: whether to read ``floor(xyz)`` for xyz: with shift 0 and xyz below 2^24 (float64: 2^53) exact
            divisions of whole numbers.
        padding: whether a point that is not finite, or whose batch or cell is outside the range of ``unique_coords``,
            becomes padding: batch -1, and 0 for the other columns. Else its numbers are cut to int32, the lowest for
            NaN, and operators on coords refuse them.
    Returns:
        (P, 1 + D) int32.
    Raises:
        TypeError: not a tensor, points not floating point, a stride that is no whole number, or a shift that is no
            number.
        ValueError: wrong shape or dtype, a stride < 1, or a shift that is not finite.
    Deterministic: yes, the same on CPU and CUDA. Not differentiable.
    """
    op = "point_cells"
    check_float_matrix(op, "points", points, columns="(P, 1 + D) with D from 1 to 4", least=2)
    dims = points.shape[1] - 1
    if points.dtype not in POINT_DTYPES or dims > 4:
        raise ValueError(f"{op}: points must be (P, 1 + D) float32 or float64, D from 1 to 4, got {describe(points)}")
    return torch.ops.pcperc.point_cells(points, *_reading(op, dims, stride, shift, quantized), not padding)


def make_interpolation_plan(
    coords: Tensor,
    points: Tensor,
    *,
    mode: str = "linear",
    renormalize: bool = False,
    stride: int | Sequence[int] = 1,
    shift: float = 0.0,
    quantized: bool = False,
    check: bool = True,
) -> GatherPlan:
    """Find the voxels around each point and their weights.

    The value of a voxel sits at its index: a point ``[b, 3.0, 4.0, 5.0]`` reads voxel ``[b, 3, 4, 5]`` alone. A point
    in metres, of a cloud whose voxel is ``floor((p - lower) / voxel_size)`` and sits in the middle of its cell, is
    therefore at ``(p - lower) / voxel_size - 0.5``.

    Args:
        coords: (M, 1 + D) int32 ``[batch, x, y, z]`` for D = 3, distinct rows in any order.
        points: (P, 1 + D) float32 or float64 ``[batch, x, y, z]``. Differentiable in mode "linear", by backward passes
            alone. A point that is not finite, or outside the batches or the range of coords, finds no voxel.
        mode: "nearest", the voxel at ``floor(place + 0.5)``; or "linear", the 2^D voxels around the point, weighted by
            the product over the axes of 1 - distance (bilinear for D = 2, trilinear for D = 3).
        renormalize: whether to divide the weights of a point by the sum of those whose voxel is there. Without it a
            missing voxel counts as one with value 0.
        stride, shift, quantized: as in :func:`point_cells`: the place of a point is ``xyz / stride - shift``, xyz
            itself unless these are given. With ``quantized`` gradients to points are 0.
        check: as in :func:`build_kernel_map`: False where coords are known to be distinct and in range.
    Returns:
        GatherPlan with J = 1 ("nearest") or 2^D ("linear", last axis fastest), weights in the dtype of points.
    Raises:
        TypeError: not a tensor, points not floating point, or a stride or shift of another type.
        ValueError: wrong shape, dtype, device, stride, shift or mode; coords that are repeated or out of range (the
            first is named).
    Source: Liu, Tang, Lin and Han, "Point-Voxel CNN for Efficient 3D Deep Learning", NeurIPS 2019 (devoxelization).
    Deterministic: yes, the same on CPU and CUDA but for the last bits of weights where points require a gradient.
    """
    op = "make_interpolation_plan"
    check_coords(op, "coords", coords)
    columns = coords.shape[1]
    check_float_matrix(op, "points", points, columns=f"(P, {columns})", least=columns, exact=True)
    if points.dtype not in POINT_DTYPES:
        raise ValueError(f"{op}: points must be float32 or float64, got {describe(points)}")
    check_choice(op, "mode", mode, INTERPOLATIONS)
    check_same_device(op, coords=coords, points=points)
    stride, shift, quantized = _reading(op, columns - 1, stride, shift, quantized)

    if mode == "nearest":
        cells = torch.ops.pcperc.point_cells(points, stride, shift - 0.5, quantized)
        rows = build_kernel_map(coords, cells, kernel_size=1, check=check).t()
        weights = (rows >= 0).to(points.dtype) if renormalize else torch.ones_like(points[:, :1])
        return GatherPlan(rows, weights, coords.shape[0])
    cells = torch.ops.pcperc.point_cells(points, stride, shift, quantized)
    table = build_kernel_map(coords, cells, kernel_size=2, check=check)
    if torch.is_grad_enabled() and points.requires_grad:
        weights = _differentiable_weights(_in_cells(points, stride, shift, quantized), cells, table, renormalize)
        return GatherPlan(table.t().contiguous(), weights, coords.shape[0])
    rows, weights = torch.ops.pcperc.corner_weights(points, table, stride, shift, quantized, renormalize)
    return GatherPlan(rows, weights, coords.shape[0])


def _reading(
    op: str, dims: int, stride: int | Sequence[int], shift: float, quantized: bool
) -> tuple[list[int], float, bool]:
    """Checked, as the operators take them."""
    steps = to_tuple(op, "stride", stride, dims, low=1)
    shift = plain(shift)
    if isinstance(shift, bool) or not isinstance(shift, int | float):
        raise TypeError(f"{op}: shift must be a number, got {describe(shift)}")
    if not -math.inf < shift < math.inf:
        raise ValueError(f"{op}: shift must be finite, got {shift}")
    return [min(step, 2**62) for step in steps], float(shift), bool(quantized)  # int64 holds no more


def _in_cells(points: Tensor, stride: Sequence[int], shift: float, quantized: bool) -> Tensor:
    xyz = points[:, 1:].floor() if quantized else points[:, 1:]
    # By tensors: a number would be its rounded reciprocal on a GPU, and put points beside the cells that they are in.
    steps = (torch.full_like(axis, step) for axis, step in zip(xyz.unbind(1), stride, strict=True))
    return torch.stack([axis / step - shift for axis, step in zip(xyz.unbind(1), steps, strict=True)], 1)


def _differentiable_weights(xyz: Tensor, cells: Tensor, table: Tensor, renormalize: bool) -> Tensor:
    """What the operator computes, by operations of torch, whose gradients of any order come along."""
    # The place of a point that finds no voxel is replaced before it is used, so that no NaN reaches a gradient.
    above = torch.where(cells[:, :1] >= 0, xyz - cells[:, 1:], 0)
    weights = torch.ones_like(above[:, :1])
    for axis in range(above.shape[1]):
        part = torch.stack([1 - above[:, axis], above[:, axis]], 1)
        weights = (weights[:, :, None] * part[:, None, :]).flatten(1)
    if renormalize:
        present = torch.where(table.t() >= 0, weights, 0)
        total = present.sum(1, keepdim=True)
        weights = present / torch.where(total > 0, total, 1)
    return weights


@torch.library.register_fake("pcperc::point_cells")
def _(points, stride, shift, quantized, everywhere=False):
    return points.new_empty(points.shape, dtype=torch.int32)


@torch.library.register_fake("pcperc::corner_weights")
def _(points, neighbors, stride, shift, quantized, renormalize):
    check_fake_devices("corner_weights", points, neighbors)
    shape = points.shape[0], neighbors.shape[0]
    return points.new_empty(shape, dtype=torch.int32), points.new_empty(shape)
