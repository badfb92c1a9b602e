# SPDX-License-Identifier: Apache-2.0
"""Fake kernels and gradients of the operators of the sparse convolution."""

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import check_fake_devices
from pcperc.ops.tap_pairs import TapPairs


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
    check_fake_devices("sparse_conv", feats, weight, neighbors, reverse_neighbors, bias, row_order, reverse_row_order)
    return feats.new_empty((neighbors.shape[1], weight.shape[2]))


@torch.library.register_fake("pcperc::sparse_conv_fused")
def _(feats, weight, neighbors, bias, residual, groups, allow_tf32, negative_slope, row_order=None) -> Tensor:
    check_fake_devices("sparse_conv_fused", feats, weight, neighbors, bias, residual, row_order)
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
    pairs=None,
) -> tuple[Tensor, Tensor]:
    check_fake_devices(
        "sparse_conv_weight_grad", feats, grad_output, neighbors, reverse_neighbors, row_order, reverse_row_order, pairs
    )
    dtype = torch.float64 if feats.dtype == torch.float64 else torch.float32
    cin, cout = feats.shape[1], grad_output.shape[1]
    grad_weight = feats.new_empty((neighbors.shape[0], cin // groups, cout), dtype=dtype)
    return grad_weight, feats.new_empty((cout if with_bias else 0,), dtype=dtype)


class EagerConv(torch.autograd.Function):
    """What ``register_autograd`` makes of the same functions, at half of its cost for each call (22 us of 40)."""

    @staticmethod
    def forward(ctx, feats, weight, bias, tables, options, pairs):
        output, rounded = convolve(feats, weight, bias, tables, options)
        ctx.save_for_backward(feats, weight, rounded, *tables)
        ctx.options, ctx.pairs = options, pairs
        return output

    @staticmethod
    def backward(ctx, grad):
        feats, weight, rounded, *tables = ctx.saved_tensors
        needs, pairs = ctx.needs_input_grad[:3], take_pairs(ctx)
        if torch.is_grad_enabled():  # a gradient of this gradient is wanted
            return *conv_gradients(grad, feats, weight, tables, ctx.options, needs, pairs), None, None, None
        with torch._C._AutoDispatchBelowAutograd():
            return *conv_gradients(grad, feats, rounded, tables, ctx.options, needs, pairs), None, None, None


def take_pairs(ctx) -> TapPairs | None:
    """Let go of the pairs, whose memory would else stay until the loss is gone; a second backward lists its own."""
    pairs, ctx.pairs = ctx.pairs, None
    return pairs


def convolve(feats, weight, bias, tables, options) -> tuple[Tensor, Tensor]:
    """The operator alone, without its own way to gradients: the result, and the weight as it was multiplied.

    ``tables`` are neighbors, reverse_neighbors, row_order and reverse_row_order, ``options`` groups and allow_tf32.
    """
    neighbors, reverse_neighbors, *orders = tables
    with torch._C._AutoDispatchBelowAutograd():
        # Rounded once for both ways; a bias must keep the dtype of its weight.
        rounded = weight if bias is not None or weight.dtype == feats.dtype else weight.to(feats.dtype)
        output = torch.ops.pcperc.sparse_conv(feats, rounded, neighbors, reverse_neighbors, bias, *options, *orders)
    return output, rounded


def conv_gradients(grad, feats, weight, tables, options, needs, pairs=None) -> tuple[Tensor | None, ...]:
    """The gradients of feats, weight and bias where they are needed; torch casts them to the dtypes of these."""
    neighbors, reverse_neighbors, order, reverse_order = tables
    needs_feats, needs_weight, needs_bias = needs
    grad_feats = grad_weight = grad_bias = None
    if needs_feats:
        factor = _transpose(weight, options[0])
        reverse = reverse_neighbors, neighbors, None, *options, reverse_order, order
        grad_feats = torch.ops.pcperc.sparse_conv(grad, factor, *reverse)
    if needs_weight or needs_bias:
        listed = None if pairs is None else pairs.listed()
        grad_weight, grad_bias = torch.ops.pcperc.sparse_conv_weight_grad(
            feats, grad, neighbors, reverse_neighbors, needs_bias, *options, order, reverse_order, listed
        )
    return grad_feats, grad_weight, grad_bias if needs_bias else None


def _conv_setup(ctx, inputs, output) -> None:
    feats, weight, neighbors, reverse_neighbors, bias, *ctx.options, order, reverse_order = inputs
    ctx.save_for_backward(feats, weight, neighbors, reverse_neighbors, order, reverse_order)


def _conv_backward(ctx, grad):
    feats, weight, *tables = ctx.saved_tensors
    needs_feats, needs_weight, _, _, needs_bias = ctx.needs_input_grad[:5]  # arguments at their defaults are left out
    needs = needs_feats, needs_weight, needs_bias
    grad_feats, grad_weight, grad_bias = conv_gradients(grad, feats, weight, tables, ctx.options, needs)
    return grad_feats, grad_weight, None, None, grad_bias, None, None, None, None


def _transpose(weight: Tensor, groups: int) -> Tensor:
    """(K, Cin / groups, Cout) -> (K, Cout / groups, Cin), the weight of the way back."""
    if groups == 1:
        return weight.transpose(1, 2)
    return weight.unflatten(2, (groups, -1)).permute(0, 3, 2, 1).flatten(2)


def _weight_grad_setup(ctx, inputs, output) -> None:
    feats, grad_output, neighbors, reverse_neighbors, ctx.with_bias, ctx.groups, ctx.allow_tf32, *orders, _ = inputs
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
    return to_feats, to_grad_output, None, None, None, None, None, None, None, None


torch.library.register_autograd("pcperc::sparse_conv", _conv_backward, setup_context=_conv_setup)
torch.library.register_autograd(
    "pcperc::sparse_conv_weight_grad", _weight_grad_backward, setup_context=_weight_grad_setup
)
