# SPDX-License-Identifier: Apache-2.0
"""Pooling of camera features into the cells of a bird's-eye-view grid, by a plan that is made once per set of points.

The lift of a camera gives each pixel's feature to many points along its ray, weighted by the probability of their
depth. The weighted form takes the pixel's features (``context``) and the probabilities as they are, so that the
product of depth and context is never stored.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pcperc.ops._checks import check_float_matrix, check_same_device, check_tensor, describe, floats, positive_int
from pcperc.ops.group_by_key import group_by_key

Segments = tuple[Tensor, Tensor, Tensor, Tensor]  # point (E,), source (E,), starts (S + 1,) int32; target (S,) int64


@dataclass(frozen=True, eq=False)
class BevPoolPlan:
    """Which points fall into which cell. Immutable; reuse it as long as the points stay where they are.

    ``by_cell`` and ``by_row`` hold the same (point, row, cell) triples, grouped by cell for the forward pass and by row
    for the gradient of the features; ``by_row`` is made on first use, so inference never pays for it.
    """

    batch_size: int
    grid_shape: tuple[int, int, int]  # (X, Y, Z)
    num_points: int  # P = B * P_b, points of all batch items, those outside the grid included
    num_rows: int  # R, rows of features that the points refer to
    point_cell: Tensor  # (P,) int64, ((b * X + x) * Y + y) * Z + z, or -1 outside the grid
    point_row: Tensor | None  # (P,) int64, row of features of each point; None: point p has row p
    by_cell: Segments  # segment = cell, source = row
    _parts: dict[str, Segments] = field(default_factory=dict, init=False, repr=False)

    @property
    def num_cells(self) -> int:
        """B * X * Y * Z."""
        return self.batch_size * math.prod(self.grid_shape)

    @property
    def by_row(self) -> Segments:
        """Segment = row of features, source = cell."""
        if "by_row" not in self._parts:  # not functools.cached_property: torch.compile cannot enter its lock
            self._parts["by_row"] = self._group_by_row()
        return self._parts["by_row"]

    def _group_by_row(self) -> Segments:
        if self.point_row is None:
            point = self.by_cell[0]
            starts = torch.arange(point.shape[0] + 1, dtype=torch.int32, device=point.device)
            return point, self.point_cell.index_select(0, point).int(), starts, point.long()
        kept_row = torch.where(self.point_cell >= 0, self.point_row, -1)
        groups = group_by_key(kept_row, num_keys=self.num_rows)
        return groups.order, self.point_cell.index_select(0, groups.order).int(), groups.starts, groups.keys


def make_bev_pool_plan(
    points: Tensor,
    *,
    lower: Sequence[float],
    cell_size: Sequence[float],
    grid_shape: Sequence[int],
    rows: Tensor | None = None,
    num_rows: int | None = None,
    check_rows: bool = True,
) -> BevPoolPlan:
    """Sort points into the cells of a grid.

    ``cell = floor((xyz - lower) / cell_size)``, computed in float32; points outside the grid and points with a NaN or
    infinite coordinate are dropped.

    Args:
        points: (B, P_b, 3) floating point, x, y, z in metres. Not differentiable.
        lower: lower corner (x, y, z) of cell (0, 0, 0) in metres.
        cell_size: edge lengths of a cell in metres, > 0.
        grid_shape: number of cells (X, Y, Z).
        rows: (B, P_b) or (B * P_b,) int32 or int64, the row of features in [0, num_rows) that each point reads,
            counted over the whole batch. None: point p of the flattened points reads row p.
        num_rows: number of rows of features; where not given, max(rows) + 1.
        check_rows: look whether rows are in range, which makes a GPU wait. Without it, and with num_rows given, points
            of rows out of range add nothing.

    Returns:
        BevPoolPlan on the device of points. One that was made under torch.inference_mode cannot take part in a
        gradient, like all tensors made there.

    Raises:
        TypeError, ValueError: wrong shape, dtype or device, rows out of range, or a grid of 2^31 cells or more.

    Source: Liu et al., BEVFusion, ICRA 2023, section III-B (grid association); Philion and Fidler, Lift, Splat,
    Shoot, ECCV 2020. Deterministic: yes; the same plan on CPU and CUDA.
    """
    op = "make_bev_pool_plan"
    check_tensor(op, "points", points)
    if points.dim() != 3 or points.shape[2] != 3 or not points.is_floating_point():
        raise ValueError(f"{op}: points must be (B, P_b, 3) floating point, got {describe(points)}")
    lower = floats(op, "lower", lower, 3)
    cell_size = floats(op, "cell_size", cell_size, 3)
    if min(cell_size) <= 0:
        raise ValueError(f"{op}: cell_size must be > 0, got {cell_size}")
    if not isinstance(grid_shape, Sequence) or len(grid_shape) != 3:
        raise ValueError(f"{op}: grid_shape must be 3 whole numbers (X, Y, Z), got {grid_shape!r}")
    shape = tuple(positive_int(op, "grid_shape", cells) for cells in grid_shape)
    batch_size, points_per_item = points.shape[:2]
    num_cells = batch_size * math.prod(shape)
    if num_cells >= 2**31:
        raise ValueError(f"{op}: the grid of all batch items must have fewer than 2^31 cells, got {num_cells}")
    num_points = batch_size * points_per_item
    rows, num_rows = _check_rows(op, points, rows, num_rows, look=check_rows)

    batch_index = torch.arange(batch_size, dtype=torch.int32, device=points.device)
    batch_index = batch_index.repeat_interleave(points_per_item)
    xyz = points.detach().reshape(num_points, 3).contiguous()
    unbounded = [torch.finfo(torch.float32).max] * 3  # not infinity, which compiled packages write as text
    cells = torch.ops.pcperc.voxel_keys(xyz, batch_index, lower, unbounded, cell_size, shape, batch_size)
    groups = group_by_key(cells, num_keys=num_cells)
    source = groups.order if rows is None else rows.index_select(0, groups.order).int()
    by_cell = (groups.order, source, groups.starts, groups.keys)
    return BevPoolPlan(batch_size, shape, num_points, num_rows, cells, rows, by_cell)


def bev_pool(feats: Tensor, plan: BevPoolPlan, weight: Tensor | None = None) -> Tensor:
    """Sum the features of the points of each cell: ``out[cell] = sum over points p of weight[p] * feats[row[p]]``.

    Args:
        feats: (R, C) floating point, one row for each row of the plan (more are allowed and get no gradient). Where
            the plan was made without ``rows``, R is the number of points. Differentiable.
        plan: from :func:`make_bev_pool_plan`, on the device of feats.
        weight: P = B * P_b values of any shape in the order of the plan's points, for instance (B, V, D, H, W) depth
            probabilities; None: 1. Differentiable.

    Returns:
        (B, Z * C, X, Y), channel z * C + c, 0 in empty cells; in channels_last memory format. The dtype is that of
        feats, promoted with that of weight (so that float32 probabilities under autocast keep their precision). Sums
        run in float32 (float64 for float64), in the order of the points.

    Raises:
        TypeError, ValueError: wrong shape, dtype or device, too few rows, or a weight that does not fit the plan.

    Source: Liu et al., BEVFusion, ICRA 2023, section III-B (interval reduction).
    Deterministic: yes, forward and backward: no atomics. Twice differentiable with respect to feats; differentiating
    the gradient of weight raises NotImplementedError.
    """
    op = "bev_pool"
    if not isinstance(plan, BevPoolPlan):
        raise TypeError(f"{op}: plan must be a BevPoolPlan from make_bev_pool_plan, got {describe(plan)}")
    check_float_matrix(op, "feats", feats, columns="(R, C)")
    if feats.shape[0] < plan.num_rows:
        raise ValueError(f"{op}: feats must have the plan's {plan.num_rows} rows, got {describe(feats)}")
    if weight is not None:
        check_tensor(op, "weight", weight)
    check_same_device(op, feats=feats, plan=plan.point_cell, weight=weight)
    if weight is not None:
        if weight.numel() != plan.num_points or not weight.is_floating_point():
            expected = f"{plan.num_points} floating point values"
            raise ValueError(f"{op}: weight must have the plan's {expected}, got {describe(weight)}")
        dtype = torch.promote_types(feats.dtype, weight.dtype)
        feats, weight = feats.to(dtype), weight.reshape(-1).to(dtype).contiguous()
    needs_grad = torch.is_grad_enabled() and (feats.requires_grad or (weight is not None and weight.requires_grad))
    by_row = list(plan.by_row) if needs_grad else []
    if not needs_grad and torch.compiler.is_compiling():
        by_row = list(plan.by_cell)  # nobody reads them; compiled packages lose a list that is empty
    pooled = torch.ops.pcperc.bev_pool(feats.contiguous(), weight, list(plan.by_cell), by_row, plan.num_cells)
    x, y, z = plan.grid_shape
    return pooled.view(plan.batch_size, x, y, z * feats.shape[1]).permute(0, 3, 1, 2)


def _check_rows(
    op: str, points: Tensor, rows: Tensor | None, num_rows: int | None, *, look: bool
) -> tuple[Tensor | None, int]:
    """Return rows as (P,) int64, and the number of rows of features."""
    num_points = points.shape[0] * points.shape[1]
    if rows is None:
        if num_rows not in (None, num_points):
            raise ValueError(f"{op}: num_rows must be {num_points}, one a point, where rows is None, got {num_rows}")
        return None, num_points
    check_tensor(op, "rows", rows)
    if rows.numel() != num_points or rows.dtype not in (torch.int32, torch.int64):
        expected = f"{num_points} int32 or int64 values"
        raise ValueError(f"{op}: rows must have one row a point, {expected}, got {describe(rows)}")
    check_same_device(op, points=points, rows=rows)
    rows = rows.reshape(-1).long()
    if torch.compiler.is_compiling() or not look:  # a look would break the graph; kernels skip rows out of range
        if num_rows is None:
            raise ValueError(f"{op}: num_rows must be given under torch.compile or without check_rows, got None")
        return rows.clamp(-1, num_rows), num_rows  # int32 must not wrap them
    low, high = torch.stack(torch.aminmax(rows)).tolist() if num_points else (0, -1)
    num_rows = high + 1 if num_rows is None else num_rows
    if low < 0 or high >= num_rows:
        raise ValueError(f"{op}: rows must be in [0, {num_rows}), got values from {low} to {high}")
    return rows, num_rows


@torch.library.register_fake("pcperc::bev_pool")
def _(feats, weight, segments, backward_segments, num_targets):
    return feats.new_empty(num_targets, feats.shape[1])


@torch.library.register_fake("pcperc::bev_pool_weight_grad")
def _(grad, feats, backward_segments, num_points):
    return grad.new_empty(num_points)


def _setup_context(ctx, inputs, output):
    feats, weight, segments, backward_segments, _ = inputs
    ctx.num_rows = feats.shape[0]
    ctx.has_weight = weight is not None
    ctx.num_points = weight.shape[0] if ctx.has_weight else 0
    saved = (weight, feats if weight.requires_grad else None) if ctx.has_weight else (None, None)
    ctx.save_for_backward(*saved, *segments, *backward_segments)


def _backward(ctx, grad):
    weight, feats, *segments = ctx.saved_tensors
    by_cell, by_row = segments[:4], segments[4:]
    if not by_row:
        raise RuntimeError("bev_pool: the gradient needs backward_segments, which this call was made without")
    grad = grad.contiguous()
    feats_grad = weight_grad = None
    if ctx.needs_input_grad[0]:
        feats_grad = torch.ops.pcperc.bev_pool(grad, weight, by_row, by_cell, ctx.num_rows)
    if ctx.has_weight and ctx.needs_input_grad[1]:
        weight_grad = torch.ops.pcperc.bev_pool_weight_grad(grad, feats, by_row, ctx.num_points)
    return feats_grad, weight_grad, [None] * 4, [None] * 4, None


def _weight_grad_backward(ctx, grad):
    # Without it torch would warn and leave the term out.
    raise NotImplementedError("bev_pool: the gradient of weight is not differentiable")


torch.library.register_autograd("pcperc::bev_pool", _backward, setup_context=_setup_context)
torch.library.register_autograd("pcperc::bev_pool_weight_grad", _weight_grad_backward)
