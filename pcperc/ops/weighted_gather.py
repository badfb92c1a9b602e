# SPDX-License-Identifier: Apache-2.0
"""Weighted sums of a few rows of features for each point, by a plan that is made once per set of points."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import check_float_matrix, check_same_device, check_table, check_tensor, describe, sum_dtype
from pcperc.ops.segment_reduce import Segments, make_segments


@dataclass(frozen=True, eq=False)
class GatherPlan:
    """The rows of features that each point reads, and their weights. Reuse it as long as points and rows stay."""

    rows: Tensor  # (P, J) int32; one outside [0, num_rows) is absent and counts 0
    weights: Tensor  # (P, J) floating point; may carry a gradient, to the coordinates of the points for instance
    num_rows: int  # M, rows of the features
    _parts: dict[str, Segments] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        check_table("GatherPlan", "rows", self.rows)
        check_tensor("GatherPlan", "weights", self.weights)
        if self.weights.shape != self.rows.shape or not self.weights.is_floating_point():
            expected = f"{tuple(self.rows.shape)} floating point like rows"
            raise ValueError(f"GatherPlan: weights must be {expected}, got {describe(self.weights)}")
        check_same_device("GatherPlan", rows=self.rows, weights=self.weights)

    @property
    def by_row(self) -> Segments:
        """The entries of ``rows`` grouped by value, which the gradient of features needs; made on first use."""
        if "by_row" not in self._parts:  # not functools.cached_property: torch.compile cannot enter its lock
            self._parts["by_row"] = make_segments(self.rows.flatten(), num_segments=self.num_rows)
        return self._parts["by_row"]


def weighted_gather(feats: Tensor, plan: GatherPlan) -> Tensor:
    """Sum the rows that each point reads: ``out[p] = sum over j of weights[p, j] * feats[rows[p, j]]``.

    Args:
        feats: (M, C) float64, float32, float16 or bfloat16. Differentiable.
        plan: from ``make_interpolation_plan`` or of the caller's own rows and weights, on the device of feats.
            Differentiable in its weights.
    Returns:
        (P, C) in the dtype of feats; 0 for a point without rows. Weights are used, and sums run, in float32 (float64
        for float64).
    Raises:
        TypeError: not a tensor, or feats not floating point.
        ValueError: wrong shape or device.
    Deterministic: yes, forward and backward, and on the CPU for every number of threads. Differentiable any number of
    times.
    """
    op = "weighted_gather"
    check_float_matrix(op, "feats", feats, columns="(M, C)", least=0)
    if not isinstance(plan, GatherPlan):
        raise TypeError(f"{op}: plan must be a GatherPlan, got {describe(plan)}")
    if feats.shape[0] != plan.num_rows:
        raise ValueError(f"{op}: feats must have the plan's {plan.num_rows} rows, got {describe(feats)}")
    check_same_device(op, feats=feats, plan=plan.rows)
    weights = plan.weights.to(sum_dtype(feats.dtype))
    needs_grad = torch.is_grad_enabled() and (feats.requires_grad or weights.requires_grad)
    order, starts = plan.by_row[1:] if needs_grad else (None, None)
    return torch.ops.pcperc.weighted_gather(feats, plan.rows, weights, order, starts)


def gather_rows(feats: Tensor, rows: Tensor) -> Tensor:
    """Take rows of features: sampled points, or the neighbours of each query in one table (grouping).

    Args:
        feats: (M, C) float64, float32, float16 or bfloat16. Differentiable.
        rows: int32 of any shape, on the device of feats; one outside [0, M), such as -1, is absent.
    Returns:
        (*rows.shape, C) in the dtype of feats; 0 where the row is absent.
    Raises:
        TypeError: not a tensor, or feats not floating point.
        ValueError: wrong shape, dtype or device.
    Deterministic: yes, forward and backward, unlike the gradient of ``feats[rows]``. Differentiable any number of
    times.
    """
    op = "gather_rows"
    check_float_matrix(op, "feats", feats, columns="(M, C)", least=0)
    check_tensor(op, "rows", rows)
    if rows.dtype != torch.int32:
        raise ValueError(f"{op}: rows must be int32, got {describe(rows)}")
    check_same_device(op, feats=feats, rows=rows)
    table = rows.reshape(-1, 1)
    plan = GatherPlan(table, torch.ones_like(table, dtype=sum_dtype(feats.dtype)), feats.shape[0])
    return weighted_gather(feats, plan).reshape(*rows.shape, feats.shape[1])


@torch.library.register_fake("pcperc::weighted_gather")
def _(feats, rows, weights, order, starts):
    return feats.new_empty(rows.shape[0], feats.shape[1])


@torch.library.register_fake("pcperc::weighted_scatter")
def _(grad, rows, weights, order, starts):
    return grad.new_empty(starts.shape[0] - 1, grad.shape[1])


@torch.library.register_fake("pcperc::weighted_gather_dot")
def _(grad, feats, rows, order, starts):
    return feats.new_empty(rows.shape, dtype=sum_dtype(feats.dtype))


# Each of the three operators is linear in two of its arguments, and every gradient is one of the other two.
def _gather_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _gather_backward(ctx, grad):
    feats, rows, weights, order, starts = ctx.saved_tensors
    to_feats = to_weights = None
    if ctx.needs_input_grad[0]:
        to_feats = torch.ops.pcperc.weighted_scatter(grad, rows, weights, *_require(order, starts))
    if ctx.needs_input_grad[2]:
        to_weights = torch.ops.pcperc.weighted_gather_dot(grad, feats, rows, order, starts)
    return to_feats, None, to_weights, None, None


def _scatter_backward(ctx, upstream):
    grad, rows, weights, order, starts = ctx.saved_tensors
    to_grad = to_weights = None
    if ctx.needs_input_grad[0]:
        to_grad = torch.ops.pcperc.weighted_gather(upstream, rows, weights, order, starts)
    if ctx.needs_input_grad[2]:
        to_weights = torch.ops.pcperc.weighted_gather_dot(grad, upstream, rows, order, starts)
    return to_grad, None, to_weights, None, None


def _dot_backward(ctx, upstream):
    grad, feats, rows, order, starts = ctx.saved_tensors
    to_grad = to_feats = None
    if ctx.needs_input_grad[0]:
        to_grad = torch.ops.pcperc.weighted_gather(feats, rows, upstream, order, starts)
    if ctx.needs_input_grad[1]:
        to_feats = torch.ops.pcperc.weighted_scatter(grad, rows, upstream, *_require(order, starts))
    return to_grad, to_feats, None, None, None


def _require(order: Tensor | None, starts: Tensor | None) -> tuple[Tensor, Tensor]:
    if order is None or starts is None:
        raise RuntimeError(
            "weighted_gather: the gradient of feats needs order and starts, which this call was made without"
        )
    return order, starts


_register = torch.library.register_autograd
_register("pcperc::weighted_gather", _gather_backward, setup_context=_gather_setup)
_register("pcperc::weighted_scatter", _scatter_backward, setup_context=_gather_setup)
_register("pcperc::weighted_gather_dot", _dot_backward, setup_context=_gather_setup)
