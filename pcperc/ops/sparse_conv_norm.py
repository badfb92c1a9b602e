# SPDX-License-Identifier: Apache-2.0
"""Convolution and batch norm as one step of training."""

import torch
from torch import Tensor

from pcperc.ops._conv_arguments import allow_tf32, autocast, check_conv, check_order, check_pairs, check_reverse
from pcperc.ops._conv_gradients import conv_gradients, convolve, take_pairs
from pcperc.ops.batch_norm import batch_norm, check_batch_norm, norm_gradients, normalise
from pcperc.ops.sparse_conv import sparse_conv
from pcperc.ops.tap_pairs import TapPairs

_OP = "sparse_conv_norm"


def sparse_conv_norm(
    feats: Tensor,
    weight: Tensor,
    neighbors: Tensor,
    reverse_neighbors: Tensor | None = None,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    num_batches_tracked: Tensor | None = None,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    negative_slope: float = 1.0,
    groups: int = 1,
    row_order: Tensor | None = None,
    reverse_row_order: Tensor | None = None,
    pairs: TapPairs | None = None,
) -> Tensor:
    """Convolve, normalise by the statistics of the result, add a residual and apply a (leaky) ReLU, for training.

    The bits are those of :func:`sparse_conv` and then :func:`batch_norm` with ``training=True``; autograd has one node
    to visit instead of two.

    Args:
        feats, neighbors, reverse_neighbors, bias, groups, row_order, reverse_row_order, pairs: as in ``sparse_conv``.
        weight: likewise; the taps may be several axes, (*kernel_size, Cin / groups, Cout). Differentiable.
        residual: (M, Cout) in the dtype of the result, or None. Differentiable.
        running_mean, running_var, num_batches_tracked, momentum, eps, negative_slope: as in ``batch_norm``.
        norm_weight, norm_bias: its weight and bias, (Cout,) or None. Differentiable.
    Returns:
        (M, Cout) in the dtype of feats, under autocast in its dtype.
    Raises:
        TypeError, ValueError: as the two; M < 2.
    Deterministic: as the two. Twice differentiable.
    """
    running = running_mean, running_var, num_batches_tracked, momentum
    taps = weight.flatten(0, -3) if isinstance(weight, Tensor) and weight.ndim > 3 else weight
    if torch.compiler.is_compiling():
        tables = dict(row_order=row_order, reverse_row_order=reverse_row_order)
        out = sparse_conv(feats, taps, neighbors, reverse_neighbors, bias, groups=groups, **tables)
        options = dict(num_batches_tracked=num_batches_tracked, momentum=momentum, eps=eps)
        statistics = running_mean, running_var, norm_weight, norm_bias
        return batch_norm(out, *statistics, residual, training=True, negative_slope=negative_slope, **options)
    feats, weight, bias = autocast(feats, taps, bias)
    tables = neighbors, reverse_neighbors, row_order, reverse_row_order
    affine = {"norm_weight": norm_weight, "norm_bias": norm_bias}
    check_conv_norm((feats, weight, bias), (*tables, pairs), groups, residual, affine, running, eps, negative_slope)
    conv, norm = (tables, (groups, allow_tf32(feats)), pairs), (running, eps, negative_slope)
    return ConvNorm.apply(feats, weight, bias, residual, norm_weight, norm_bias, conv, norm)


def check_conv_norm(
    inputs: tuple,
    tables: tuple,
    groups: int,
    residual: Tensor | None,
    affine: dict[str, Tensor | None],
    running: tuple,
    eps: float,
    negative_slope: float,
) -> None:
    """Check all arguments, of which ``inputs`` are feats, weight and bias as autocast leaves them.

    ``tables`` are neighbors, reverse_neighbors, row_order, reverse_row_order and pairs, ``running`` and
    ``affine`` as in ``check_batch_norm``.
    """
    feats, weight, bias = inputs
    neighbors, reverse_neighbors, row_order, reverse_row_order, pairs = tables
    check_conv(_OP, feats, weight, neighbors, bias, groups)
    check_reverse(_OP, feats, neighbors, reverse_neighbors)
    check_order(_OP, "row_order", row_order, neighbors)
    check_order(_OP, "reverse_row_order", reverse_row_order, reverse_neighbors)
    check_pairs(_OP, pairs, feats, neighbors, row_order)
    convolved = feats.new_empty(()).expand(neighbors.shape[1], weight.shape[-1])  # what it will be like
    check_batch_norm(_OP, "the convolution", convolved, running, affine, residual, True, eps, negative_slope)


class ConvNorm(torch.autograd.Function):
    """The step without checks. ``conv`` are the tables and options of ``convolve`` and the pairs, ``norm`` the last
    three arguments of ``normalise``; the taps of weight may be several axes.
    """

    @staticmethod
    def forward(ctx, feats, weight, bias, residual, norm_weight, norm_bias, conv, norm):
        tables, ctx.options, ctx.pairs = conv
        _, ctx.eps, ctx.negative_slope = norm
        convolved, rounded = convolve(feats, weight.flatten(0, -3), bias, tables, ctx.options)
        out, *saved_norm = normalise(convolved, residual, norm_weight, norm_bias, *norm)
        ctx.save_for_backward(*saved_norm, feats, weight, rounded, bias, *tables)
        return out

    @staticmethod
    def backward(ctx, grad):
        saved = ctx.saved_tensors
        saved_norm, (feats, weight, rounded, bias), tables = saved[:5], saved[5:9], saved[9:]
        if torch.is_grad_enabled():  # a gradient of this gradient is wanted: also along what the convolution depends on
            taps = weight.flatten(0, -3)
            convolved = torch.ops.pcperc.sparse_conv(feats, taps, *tables[:2], bias, *ctx.options, *tables[2:])
            return _gradients(ctx, grad, (convolved, *saved_norm[1:]), feats, taps, tables, weight.shape)
        with torch._C._AutoDispatchBelowAutograd():
            return _gradients(ctx, grad, saved_norm, feats, rounded, tables, weight.shape)


def _gradients(ctx, grad, saved_norm, feats, taps, tables, weight_shape) -> tuple[Tensor | None, ...]:
    needs_conv, needs_norm = ctx.needs_input_grad[:3], ctx.needs_input_grad[3:6]
    grad, *of_norm = norm_gradients(grad, saved_norm, needs_norm, ctx.eps, ctx.negative_slope)
    of_feats, of_taps, of_bias = conv_gradients(grad, feats, taps, tables, ctx.options, needs_conv, take_pairs(ctx))
    of_weight = None if of_taps is None else of_taps.view(weight_shape)
    return of_feats, of_weight, of_bias, *of_norm, None, None
