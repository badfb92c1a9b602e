# SPDX-License-Identifier: Apache-2.0
"""Pooling of features along a neighbour table, and the way back to the rows that were pooled."""

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import (
    REDUCTIONS,
    check_choice,
    check_float_matrix,
    check_same_device,
    check_table,
    check_tensor,
    describe,
)


def sparse_pool(feats: Tensor, neighbors: Tensor, reverse_neighbors: Tensor | None = None, *, mode: str) -> Tensor:
    """Reduce, over the taps, the neighbours of each output row; taps without a neighbour are left out.

    Args:
        feats: (N, C) float64, float32, float16 or bfloat16. Differentiable.
        neighbors: (K, M) int32 from ``build_kernel_map``. An entry outside [0, N) is an absent neighbour: no error.
        reverse_neighbors: (K, N) int32 from ``reverse_kernel_map``: the gradient runs along it. May be None where feats
            need no gradient.
        mode: "max", see :func:`sparse_max_pool`; "sum"; or "mean", over the neighbours that are present, which is
            torch's ``count_include_pad=False``.
    Returns:
        (M, C) in the dtype of feats; 0 in a row without neighbours. Sums are float32 (float64 for float64).
    Raises:
        TypeError: not a tensor, or feats not floating point.
        ValueError: wrong shape, dtype, device or mode; feats that need a gradient without reverse_neighbors.
    Deterministic: yes, forward and backward, and on the CPU for every number of threads. Differentiable any number of
    times.
    """
    op = "sparse_pool"
    check_choice(op, "mode", mode, REDUCTIONS)
    _check(op, feats, neighbors, reverse_neighbors)
    if mode == "max":
        return torch.ops.pcperc.sparse_max_pool(feats, neighbors, reverse_neighbors)[0]
    counts = torch.ops.pcperc.neighbor_counts(neighbors, feats.shape[0]) if mode == "mean" else None
    return torch.ops.pcperc.sparse_sum_pool(feats, neighbors, reverse_neighbors, None, counts)


def sparse_max_pool(feats: Tensor, neighbors: Tensor, reverse_neighbors: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the largest neighbour of each output row, channel by channel, and the row that it is in.

    As in ``torch.nn.MaxPool3d`` the first of equal neighbours, in the order of the taps, is taken, and a NaN wins over
    all numbers.

    Args:
        feats, neighbors, reverse_neighbors: as in :func:`sparse_pool`.
    Returns:
        values (M, C) in the dtype of feats and rows (M, C) int32; 0 and -1 where a row has no neighbours.
    Raises:
        TypeError, ValueError: as :func:`sparse_pool`.
    Deterministic: yes. Differentiable any number of times: the gradient goes to ``rows``.
    """
    _check("sparse_max_pool", feats, neighbors, reverse_neighbors)
    return torch.ops.pcperc.sparse_max_pool(feats, neighbors, reverse_neighbors)


def sparse_max_unpool(feats: Tensor, rows: Tensor, reverse_neighbors: Tensor) -> Tensor:
    """Put values back into the rows that :func:`sparse_max_pool` took a maximum from.

    ``out[n, c]`` is the sum of the ``feats[m, c]`` with ``rows[m, c] = n`` (several where windows overlap), else 0.

    Args:
        feats: (M, C) floating point. Differentiable.
        rows: (M, C) int32, the second result of ``sparse_max_pool`` along a table ``neighbors``.
        reverse_neighbors: (K, N) int32, that table turned round. A row that it does not connect gets nothing.
    Returns:
        (N, C) in the dtype of feats.
    Raises:
        TypeError: not a tensor, or feats not floating point.
        ValueError: wrong shape, dtype or device.
    Deterministic: yes. Differentiable any number of times.
    """
    op = "sparse_max_unpool"
    check_float_matrix(op, "feats", feats, columns="(M, C)")
    check_tensor(op, "rows", rows)
    if rows.shape != feats.shape or rows.dtype != torch.int32:
        raise ValueError(f"{op}: rows must be {tuple(feats.shape)} int32 like feats, got {describe(rows)}")
    check_table(op, "reverse_neighbors", reverse_neighbors)
    check_same_device(op, feats=feats, rows=rows, reverse_neighbors=reverse_neighbors)
    return torch.ops.pcperc.sparse_max_unpool(feats, rows, reverse_neighbors)


def _check(op: str, feats: Tensor, neighbors: Tensor, reverse_neighbors: Tensor | None) -> None:
    check_float_matrix(op, "feats", feats, columns="(N, C)", least=0)
    check_table(op, "neighbors", neighbors)
    if reverse_neighbors is not None:
        check_table(op, "reverse_neighbors", reverse_neighbors)
        expected = (neighbors.shape[0], feats.shape[0])
        if reverse_neighbors.shape != expected:
            raise ValueError(f"{op}: reverse_neighbors must be {expected} int32, got {describe(reverse_neighbors)}")
    elif feats.requires_grad and torch.is_grad_enabled():
        raise ValueError(f"{op}: reverse_neighbors must be given where feats need a gradient, got None")
    check_same_device(op, feats=feats, neighbors=neighbors, reverse_neighbors=reverse_neighbors)


@torch.library.register_fake("pcperc::neighbor_counts")
def _(neighbors, num_inputs):
    return neighbors.new_empty(neighbors.shape[1])


@torch.library.register_fake("pcperc::sparse_sum_pool")
def _(feats, neighbors, reverse_neighbors, in_counts, out_counts):
    return feats.new_empty(neighbors.shape[1], feats.shape[1])


@torch.library.register_fake("pcperc::sparse_max_pool")
def _(feats, neighbors, reverse_neighbors):
    values = feats.new_empty(neighbors.shape[1], feats.shape[1])
    return values, torch.empty_like(values, dtype=torch.int32)


@torch.library.register_fake("pcperc::sparse_max_unpool")
def _(feats, rows, reverse_neighbors):
    return feats.new_empty(reverse_neighbors.shape[1], feats.shape[1])


@torch.library.register_fake("pcperc::sparse_max_take")
def _(feats, rows, reverse_neighbors):
    return feats.new_empty(rows.shape)


def _require(reverse_neighbors: Tensor | None) -> Tensor:
    if reverse_neighbors is None:
        raise RuntimeError("sparse_pool: the gradient needs reverse_neighbors, which this call was made without")
    return reverse_neighbors


def _sum_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs[1:])


def _sum_backward(ctx, grad):
    """The transposed sum: tables and counts change sides."""
    neighbors, reverse_neighbors, in_counts, out_counts = ctx.saved_tensors
    reverse_neighbors = _require(reverse_neighbors)
    grad = torch.ops.pcperc.sparse_sum_pool(grad, reverse_neighbors, neighbors, out_counts, in_counts)
    return grad, None, None, None, None


def _max_setup(ctx, inputs, output):
    ctx.save_for_backward(output[1], inputs[2])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _max_backward(ctx, grad, _):
    rows, reverse_neighbors = ctx.saved_tensors
    if grad is None:
        return None, None, None
    return torch.ops.pcperc.sparse_max_unpool(grad, rows, _require(reverse_neighbors)), None, None


def _rows_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs[1:])


def _unpool_backward(ctx, grad):
    return torch.ops.pcperc.sparse_max_take(grad, *ctx.saved_tensors), None, None


def _take_backward(ctx, grad):
    return torch.ops.pcperc.sparse_max_unpool(grad, *ctx.saved_tensors), None, None


_register = torch.library.register_autograd
_register("pcperc::sparse_sum_pool", _sum_backward, setup_context=_sum_setup)
_register("pcperc::sparse_max_pool", _max_backward, setup_context=_max_setup)
_register("pcperc::sparse_max_unpool", _unpool_backward, setup_context=_rows_setup)
_register("pcperc::sparse_max_take", _take_backward, setup_context=_rows_setup)
