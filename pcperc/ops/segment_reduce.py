# SPDX-License-Identifier: Apache-2.0
"""Reductions over segments of rows that may be as long as a whole cloud, and what is spread back over their rows."""

from typing import NamedTuple

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import (
    REDUCTIONS,
    check_choice,
    check_float_matrix,
    check_same_device,
    check_tensor,
    describe,
    sum_dtype,
)


class Segments(NamedTuple):
    """Which rows are reduced together, for instance the voxels of each batch item. From :func:`make_segments`.

    ``starts.diff()`` is how many rows each segment has; torch 2.10 compiles no property of a named tuple.
    """

    index: Tensor  # (M,) int32, the segment of each row; a row outside [0, S) is in none
    order: Tensor  # (M,) int32, rows sorted by segment and, within a segment, by row; around them those in none
    starts: Tensor  # (S + 1,) int32, the rows of segment s are order[starts[s] : starts[s + 1]]


def make_segments(index: Tensor, *, num_segments: int) -> Segments:
    """Group rows by the number of their segment.

    Args:
        index: (M,) int32 or int64, the segment of each row, in any order; a row outside [0, num_segments) is in none.
        num_segments: S >= 0.
    Returns:
        Segments on the device of index; nothing waits for the device.
    Raises:
        TypeError: not a tensor, or num_segments no whole number.
        ValueError: wrong shape or dtype, num_segments < 0 or >= 2^31 - 1, or 2^31 - 1 rows or more.
    Deterministic: yes, the same on CPU and CUDA. Not differentiable.
    """
    op = "make_segments"
    check_tensor(op, "index", index)
    if index.dim() != 1 or index.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"{op}: index must be (M,) int32 or int64, got {describe(index)}")
    if isinstance(num_segments, bool) or not isinstance(num_segments, int | torch.SymInt):
        raise TypeError(f"{op}: num_segments must be a whole number, got {num_segments!r}")
    if num_segments < 0:
        raise ValueError(f"{op}: num_segments must be >= 0, got {num_segments}")
    return Segments(*torch.ops.pcperc.make_segments(index, num_segments))


def segment_reduce(feats: Tensor, segments: Segments, *, mode: str) -> Tensor:
    """Reduce the rows of each segment; means of many segments of few rows are for :func:`pcperc.ops.segment_mean`.

    Args:
        feats: (M, C) float64, float32, float16 or bfloat16. Differentiable.
        segments: from :func:`make_segments`, on the device of feats.
        mode: "sum", "mean", or "max": a NaN wins over all numbers, and the gradient goes to the first of equal rows.
    Returns:
        (S, C) in the dtype of feats; 0 in an empty segment. Sums are float32 (float64 for float64).
    Raises:
        TypeError: not a tensor, or feats not floating point.
        ValueError: wrong shape, device or mode.
    Deterministic: yes, forward and backward, and on the CPU for every number of threads. Differentiable any number of
    times.
    """
    op = "segment_reduce"
    check_choice(op, "mode", mode, REDUCTIONS)
    check_rows_of_segments(op, feats, segments)
    if mode == "max":
        return torch.ops.pcperc.segment_max(feats, *segments)[0]
    sums = segment_dot(feats, segments)
    if mode == "mean":
        sums = sums / segments.starts.diff().clamp(min=1)[:, None]
    return sums.to(feats.dtype)


def segment_dot(feats: Tensor, segments: Segments, factor: Tensor | None = None) -> Tensor:
    """Sum ``feats`` or ``feats * factor`` over the rows of each segment.

    Args:
        feats: (M, C) floating point. Differentiable.
        segments: from :func:`make_segments`, on the device of feats.
        factor: (M, C) in the dtype of feats, or None for 1. Differentiable.
    Returns:
        (S, C) float32, or float64 for float64; 0 in an empty segment.
    Raises:
        TypeError: not a tensor, or feats not floating point.
        ValueError: wrong shape, dtype or device.
    Deterministic: as :func:`segment_reduce`. Differentiable any number of times.
    """
    op = "segment_dot"
    check_rows_of_segments(op, feats, segments)
    if factor is not None:
        check_tensor(op, "factor", factor)
        if factor.shape != feats.shape or factor.dtype != feats.dtype or factor.device != feats.device:
            raise ValueError(f"{op}: factor must be like feats, {describe(feats)}, got {describe(factor)}")
    return torch.ops.pcperc.segment_dot(feats, factor, *segments)


def segment_affine(
    feats: Tensor, segments: Segments, *, scale: Tensor | None = None, shift: Tensor | None = None
) -> Tensor:
    """Scale and shift each row by the values of its segment: ``out[m] = feats[m] * scale[s] + shift[s]``.

    Args:
        feats: (M, C) floating point. Differentiable.
        segments: from :func:`make_segments`, on the device of feats.
        scale, shift: (S, C) floating point, or None for 1 and 0; used in float32 (float64 with float64 feats).
            Differentiable.
    Returns:
        (M, C) in the dtype of feats, rounded once; 0 in a row that is in no segment.
    Raises:
        TypeError: not a tensor, or not floating point.
        ValueError: wrong shape or device.
    Deterministic: as :func:`segment_reduce`. Differentiable any number of times.
    """
    op = "segment_affine"
    check_rows_of_segments(op, feats, segments)
    expected = (segments.starts.shape[0] - 1, feats.shape[1])
    given = {"scale": scale, "shift": shift}
    for name, values in given.items():
        if values is None:
            continue
        check_float_matrix(op, name, values, columns="(S, C)", least=0)
        if values.shape != expected or values.device != feats.device:
            raise ValueError(f"{op}: {name} must be {expected} on {feats.device}, got {describe(values)}")
        given[name] = values.to(sum_dtype(feats.dtype))
    return torch.ops.pcperc.segment_affine(feats, given["scale"], given["shift"], *segments)


def check_rows_of_segments(op: str, feats: Tensor, segments: Segments) -> None:
    """Raise TypeError or ValueError for feats that do not fit the segments."""
    check_float_matrix(op, "feats", feats, columns="(M, C)", least=0)
    if not isinstance(segments, Segments):
        raise TypeError(f"{op}: segments must be Segments from make_segments, got {describe(segments)}")
    if feats.shape[0] != segments.index.shape[0]:
        raise ValueError(f"{op}: feats must have the {segments.index.shape[0]} rows of segments, got {describe(feats)}")
    check_same_device(op, feats=feats, segments=segments.index)


@torch.library.register_fake("pcperc::make_segments")
def _(index, num_segments):
    rows = index.new_empty(index.shape, dtype=torch.int32)
    return rows, torch.empty_like(rows), index.new_empty(num_segments + 1, dtype=torch.int32)


@torch.library.register_fake("pcperc::segment_dot")
def _(feats, factor, index, order, starts):
    return feats.new_empty(starts.shape[0] - 1, feats.shape[1], dtype=sum_dtype(feats.dtype))


@torch.library.register_fake("pcperc::segment_max")
def _(feats, index, order, starts):
    values = feats.new_empty(starts.shape[0] - 1, feats.shape[1])
    return values, torch.empty_like(values, dtype=torch.int32)


@torch.library.register_fake("pcperc::segment_affine")
def _(feats, scale, shift, index, order, starts):
    like = shift if feats is None else feats
    return like.new_empty(index.shape[0], like.shape[1])


def _dot_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _dot_backward(ctx, grad):
    feats, factor, *segments = ctx.saved_tensors
    affine = torch.ops.pcperc.segment_affine
    to_feats = to_factor = None
    if factor is None:
        to_feats = affine(None, None, grad, *segments).to(feats.dtype)
    else:
        to_feats = affine(factor, grad, None, *segments) if ctx.needs_input_grad[0] else None
        to_factor = affine(feats, grad, None, *segments) if ctx.needs_input_grad[1] else None
    return to_feats, to_factor, None, None, None


def _affine_setup(ctx, inputs, output):
    feats, scale, _, *segments = inputs
    ctx.save_for_backward(feats if ctx.needs_input_grad[1] else None, scale, *segments)


def _affine_backward(ctx, grad):
    feats, scale, *segments = ctx.saved_tensors
    needs_feats, needs_scale, needs_shift, *_ = ctx.needs_input_grad
    to_feats = torch.ops.pcperc.segment_affine(grad, scale, None, *segments) if needs_feats else None
    to_scale = torch.ops.pcperc.segment_dot(feats, grad, *segments) if needs_scale else None
    to_shift = torch.ops.pcperc.segment_dot(grad, None, *segments) if needs_shift else None
    return to_feats, to_scale, to_shift, None, None, None


def _max_setup(ctx, inputs, output):
    ctx.save_for_backward(output[1], inputs[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _max_backward(ctx, grad, _):
    """A row's segment is the one output that it feeds: the way back of a max pooling with one tap."""
    rows, index = ctx.saved_tensors
    to_feats = None if grad is None else torch.ops.pcperc.sparse_max_unpool(grad, rows, index[None])
    return to_feats, None, None, None


_register = torch.library.register_autograd
_register("pcperc::segment_dot", _dot_backward, setup_context=_dot_setup)
_register("pcperc::segment_affine", _affine_backward, setup_context=_affine_setup)
_register("pcperc::segment_max", _max_backward, setup_context=_max_setup)
