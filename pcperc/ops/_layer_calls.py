# SPDX-License-Identifier: Apache-2.0
"""Operators as layers call them, along tables that a kernel map made and with parameters of their own.

Without gradients, and in a block's training step, the arguments go to the operator as they are. Where it refuses them,
the checks of the public function say in our words what does not fit; made in every call, they would take as long as the
operator itself. Where they find nothing, the operator's own error stands, and nothing is computed twice.
"""

import math

import torch
from torch import Tensor

from pcperc.ops._checks import check_float_matrix
from pcperc.ops._conv_arguments import allow_tf32, autocast, check_conv, check_residual, is_autocast
from pcperc.ops._library import direct
from pcperc.ops.batch_norm import are_plain_numbers, batch_norm, check_batch_norm
from pcperc.ops.sparse_conv import sparse_conv, sparse_conv_fused
from pcperc.ops.sparse_conv_norm import ConvNorm, check_conv_norm, sparse_conv_norm
from pcperc.ops.tap_pairs import TapPairs

_sparse_conv = direct("sparse_conv")
_sparse_conv_fused = direct("sparse_conv_fused")
_batch_norm_inference = direct("batch_norm_inference")


def layer_conv(
    feats: Tensor,
    weight: Tensor,
    neighbors: Tensor,
    reverse_neighbors: Tensor | None,
    row_order: Tensor | None,
    reverse_row_order: Tensor | None,
    pairs: TapPairs | None,
    bias: Tensor | None,
    groups: int,
) -> Tensor:
    """:func:`pcperc.ops.sparse_conv` for a layer."""
    if not _must_check(feats):
        if torch._C._is_any_autocast_enabled():
            feats, weight, bias = autocast(feats, weight, bias)
        options = groups, allow_tf32(feats), row_order, None
        try:
            with torch._C._AutoDispatchBelowAutograd():  # its way to gradients costs as much as the operator
                return _sparse_conv(feats, weight, neighbors, None, bias, *options)
        except RuntimeError:
            check_conv("sparse_conv", feats, weight, neighbors, bias, groups)
            raise
    orders = {"row_order": row_order, "reverse_row_order": reverse_row_order}
    return sparse_conv(feats, weight, neighbors, reverse_neighbors, bias, groups=groups, pairs=pairs, **orders)


def layer_conv_fused(
    feats: Tensor,
    weight: Tensor,
    neighbors: Tensor,
    row_order: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    groups: int,
    negative_slope: float,
) -> Tensor:
    """:func:`pcperc.ops.sparse_conv_fused` for a layer."""
    if not _must_check(feats) and type(negative_slope) is float and -math.inf < negative_slope < math.inf:
        if torch._C._is_any_autocast_enabled():
            feats, weight, bias = autocast(feats, weight, bias)
            residual = residual.to(feats.dtype) if residual is not None and is_autocast(feats) else residual
        options = groups, allow_tf32(feats), negative_slope, row_order
        try:
            return _sparse_conv_fused(feats, weight, neighbors, bias, residual, *options)
        except RuntimeError:
            check_conv("sparse_conv_fused", feats, weight, neighbors, bias, groups)
            if residual is not None:
                check_residual("sparse_conv_fused", feats, weight, neighbors, residual)
            raise
    options = {"groups": groups, "negative_slope": negative_slope, "row_order": row_order}
    return sparse_conv_fused(feats, weight, neighbors, bias, residual, **options)


def layer_batch_norm(
    feats: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    negative_slope: float,
) -> Tensor:
    """:func:`pcperc.ops.batch_norm` with given statistics, for a layer."""
    if not _must_check(feats) and are_plain_numbers(None, eps, negative_slope):
        try:
            return _batch_norm_inference(feats, residual, mean, var, weight, bias, eps, negative_slope)
        except RuntimeError:
            check_float_matrix("batch_norm", "feats", feats, columns="(M, C)", least=0)
            running, affine = (mean, var, None, None), {"weight": weight, "bias": bias}
            check_batch_norm("batch_norm", "feats", feats, running, affine, residual, False, eps, negative_slope)
            raise
    return batch_norm(feats, mean, var, weight, bias, residual, eps=eps, negative_slope=negative_slope)


def layer_conv_norm(
    feats: Tensor,
    weight: Tensor,
    tables: tuple,
    bias: Tensor | None,
    groups: int,
    residual: Tensor | None,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    running: tuple,
    eps: float,
    negative_slope: float,
) -> Tensor:
    """:func:`pcperc.ops.sparse_conv_norm` for a layer.

    ``tables`` are neighbors, reverse_neighbors, row_order, reverse_row_order and pairs, ``running`` running_mean,
    running_var, num_batches_tracked and momentum.
    """
    neighbors, reverse_neighbors, row_order, reverse_row_order, pairs = tables
    running_mean, running_var, num_batches_tracked, momentum = running
    has_running = running_mean is not None and running_var is not None
    if (
        not (feats.is_meta or torch.compiler.is_compiling())
        and (has_running or running_mean is running_var)  # what the operator does not ask: both or none, and a count
        and (momentum is not None or num_batches_tracked is not None or not has_running)
        and are_plain_numbers(momentum, eps, negative_slope)
    ):
        inputs = autocast(feats, weight, bias) if torch._C._is_any_autocast_enabled() else (feats, weight, bias)
        conv = tables[:4], (groups, allow_tf32(inputs[0])), pairs
        try:
            return ConvNorm.apply(*inputs, residual, norm_weight, norm_bias, conv, (running, eps, negative_slope))
        except RuntimeError:
            taps, affine = inputs[1].flatten(0, -3), {"norm_weight": norm_weight, "norm_bias": norm_bias}
            inputs = inputs[0], taps, inputs[2]
            check_conv_norm(inputs, tables, groups, residual, affine, running, eps, negative_slope)
            raise
    return sparse_conv_norm(
        feats,
        weight,
        neighbors,
        reverse_neighbors,
        bias,
        residual,
        running_mean=running_mean,
        running_var=running_var,
        num_batches_tracked=num_batches_tracked,
        norm_weight=norm_weight,
        norm_bias=norm_bias,
        momentum=momentum,
        eps=eps,
        negative_slope=negative_slope,
        groups=groups,
        row_order=row_order,
        reverse_row_order=reverse_row_order,
        pairs=pairs,
    )


def _must_check(feats: Tensor) -> bool:
    """Whether gradients are recorded, or no operator runs that would refuse: in a trace, and on meta tensors."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling() or feats.is_meta
