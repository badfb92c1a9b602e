# SPDX-License-Identifier: Apache-2.0
"""Fake kernels and gradients of the operators of the sparse convolution."""

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401


@torch.library.register_fake("pcperc::sparse_conv")
def _(
    feats,
    weight,
    neighbors,
    reverse_neighbors,
    bias,
    groups=1,
    allow_tf32=False,
    row_order=None,
    reverse_row_order=None,
) -> Tensor:
    return feats.new_empty((neighbors.shape[1], weight.shape[2]))


@torch.library.register_fake("pcperc::sparse_conv_fused")
def _(feats, weight, neighbors, bias, residual, groups, allow_tf32, negative_slope, row_order=None) -> Tensor:
    return feats.new_empty((neighbors.shape[1], weight.shape[2]))


@torch.library.register_fake("pcperc::sparse_conv_weight_grad")
def _(
    feats,
    grad_output,
    neighbors,
    reverse_neighbors,
    with_bias,
    groups=1,
    allow_tf32=False,
    row_order=None,
    reverse_row_order=None,
) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if feats.dtype == torch.float64 else torch.float32
    cin, cout = feats.shape[1], grad_output.shape[1]
    grad_weight = feats.new_empty((neighbors.shape[0], cin // groups, cout), dtype=dtype)
    return grad_weight, feats.new_empty((cout if with_bias else 0,), dtype=dtype)


def _conv_setup(ctx, inputs, output) -> None:
    feats, weight, neighbors, reverse_neighbors, bias, ctx.groups, ctx.allow_tf32, *orders = inputs
    ctx.save_for_backward(feats, weight, neighbors, reverse_neighbors, *orders)
    ctx.bias_dtype = None if bias is None else bias.dtype


def _conv_backward(ctx, grad, rounded_weight: Tensor | None = None):
    feats, weight, neighbors, reverse_neighbors, order, reverse_order = ctx.saved_tensors
    needs_feats, needs_weight, _, _, needs_bias = ctx.needs_input_grad[:5]  # arguments at their defaults are left out
    grad_feats = grad_weight = grad_bias = None
    options = ctx.groups, ctx.allow_tf32
    if needs_feats:
        tables = reverse_neighbors, neighbors, None, *options, reverse_order, order
        factor = weight if rounded_weight is None else rounded_weight
        grad_feats = torch.ops.pcperc.sparse_conv(grad, _transpose(factor, ctx.groups), *tables)
    if needs_weight or needs_bias:
        grad_weight, grad_bias = torch.ops.pcperc.sparse_conv_weight_grad(
            feats, grad, neighbors, reverse_neighbors, needs_bias, *options, order, reverse_order
        )
        grad_weight = grad_weight.to(weight.dtype)
        grad_bias = grad_bias.to(ctx.bias_dtype) if needs_bias else None
    return grad_feats, grad_weight, None, None, grad_bias, None, None, None, None


class EagerConv(torch.autograd.Function):
    """What ``register_autograd`` makes of the same functions, at half of its cost for each call (22 us of 40)."""

    @staticmethod
    def forward(ctx, *inputs):
        feats, weight, neighbors, reverse_neighbors, bias, *options = inputs
        # Rounded once for both ways; a bias must keep the dtype of its weight.
        ctx.rounded_weight = weight if bias is not None else weight.to(feats.dtype)
        with torch._C._AutoDispatchBelowAutograd():  # the operator alone, not its own way to gradients
            tables = neighbors, reverse_neighbors, bias
            output = torch.ops.pcperc.sparse_conv(feats, ctx.rounded_weight, *tables, *options)
        _conv_setup(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx, grad):
        if torch.is_grad_enabled():  # a gradient of this gradient is wanted
            return _conv_backward(ctx, grad)
        with torch._C._AutoDispatchBelowAutograd():
            return _conv_backward(ctx, grad, ctx.rounded_weight)


def _transpose(weight: Tensor, groups: int) -> Tensor:
    """(K, Cin / groups, Cout) -> (K, Cout / groups, Cin), the weight of the way back."""
    if groups == 1:
        return weight.transpose(1, 2)
    return weight.unflatten(2, (groups, -1)).permute(0, 3, 2, 1).flatten(2)


def _weight_grad_setup(ctx, inputs, output) -> None:
    feats, grad_output, neighbors, reverse_neighbors, ctx.with_bias, ctx.groups, ctx.allow_tf32, *orders = inputs
    ctx.save_for_backward(feats, grad_output, neighbors, reverse_neighbors, *orders)


def _weight_grad_backward(ctx, grad_weight, grad_bias):
    """The weight gradient is linear in feats and in grad_output, so its gradients are convolutions again."""
    feats, grad_output, neighbors, reverse_neighbors, order, reverse_order = ctx.saved_tensors
    conv, options = torch.ops.pcperc.sparse_conv, (ctx.groups, ctx.allow_tf32)
    to_feats = to_grad_output = None
    if ctx.needs_input_grad[0]:
        tables = reverse_neighbors, neighbors, None, *options, reverse_order, order
        to_feats = conv(grad_output, _transpose(grad_weight, ctx.groups), *tables)
    if ctx.needs_input_grad[1]:
        bias = grad_bias if ctx.with_bias else None
        to_grad_output = conv(feats, grad_weight, neighbors, reverse_neighbors, bias, *options, order, reverse_order)
    return to_feats, to_grad_output, None, None, None, None, None, None, None


torch.library.register_autograd("pcperc::sparse_conv", _conv_backward, setup_context=_conv_setup)
torch.library.register_autograd(
    "pcperc::sparse_conv_weight_grad", _weight_grad_backward, setup_context=_weight_grad_setup
)
