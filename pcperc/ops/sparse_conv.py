# SPDX-License-Identifier: Apache-2.0
"""Convolution of features along a kernel map, with both gradients, and with what follows it fused for inference."""

import math

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import FLOAT_DTYPES, check_same_device, check_table, check_tensor, describe, positive_int

_HALF_DTYPES = (torch.float16, torch.bfloat16)


def sparse_conv(
    feats: Tensor,
    weight: Tensor,
    neighbors: Tensor,
    reverse_neighbors: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    groups: int = 1,
    row_order: Tensor | None = None,
    reverse_row_order: Tensor | None = None,
) -> Tensor:
    """Sum, over the taps, the neighbour's features times the tap's weights.

    ``out[m] = bias + sum_k feats[neighbors[k, m]] @ weight[k]``, taps without a neighbour left out.

    Under autocast, feats that are not float64 are cast to the autocast dtype. Sums are float32 (float64 for float64).
    On CUDA, float32 products use TF32 tensor cores, which round feats and weight to 11 significant bits, where torch's
    own switch for float32 matrix products says so: ``torch.backends.cuda.matmul.allow_tf32 = True``, its newer form
    ``torch.backends.cuda.matmul.fp32_precision = "tf32"`` or ``torch.set_float32_matmul_precision``. It is off by
    default; both gradients are computed as the forward pass was, however the switch stands by then.

    Args:
        feats: (N, Cin) float64, float32, float16 or bfloat16. Differentiable.
        weight: (K, Cin / groups, Cout) in the dtype of feats, or float32 with half-precision feats: it is then rounded
            to their dtype for the product, and its gradient stays float32. Differentiable.
        neighbors: (K, M) int32 from ``build_kernel_map``. An entry outside [0, N) is an absent neighbour, without
            an error: to refuse one, every layer would have to wait for the GPU.
        reverse_neighbors: (K, N) int32 from ``reverse_kernel_map``: the gradient of feats runs along it. May be None
            where feats need no gradient.
        bias: (Cout,) in the dtype of weight, or None. Differentiable.
        groups: divides Cin and Cout; output channels of a group see its input channels alone, as in torch.nn.Conv3d.
        row_order: (M,) int32 from ``order_rows``: column j of ``neighbors`` is that of output row ``row_order[j]``,
            which a GPU is faster on; None: column j is that of row j. Numbers outside [0, M) are left out; an output
            row that is not named is undefined.
        reverse_row_order: (N,) int32, the same for ``reverse_neighbors``.
    Returns:
        (M, Cout) in the dtype of feats; M = 0 gives an empty tensor, a row without neighbours the bias.
    Raises:
        TypeError: not a tensor.
        ValueError: wrong shape, dtype or device; feats that need a gradient without reverse_neighbors.
    Source: Graham, Engelcke, van der Maaten, "3D Semantic Segmentation with Submanifold Sparse Convolutional Networks",
        CVPR 2018, section 3.
    Deterministic: yes, forward and backward, and on the CPU for every number of threads. Twice differentiable.
    """
    feats, weight, bias = _autocast(feats, weight, bias)
    _check("sparse_conv", feats, weight, neighbors, bias, groups)
    _check_reverse(feats, neighbors, reverse_neighbors)
    _check_order("sparse_conv", "row_order", row_order, neighbors)
    _check_order("sparse_conv", "reverse_row_order", reverse_row_order, reverse_neighbors)
    tables = feats, weight, neighbors, reverse_neighbors, bias
    inputs = *tables, groups, _allow_tf32(feats), row_order, reverse_row_order
    if torch.compiler.is_compiling():
        return torch.ops.pcperc.sparse_conv(*inputs)
    if torch.is_grad_enabled():
        return _EagerConv.apply(*inputs)
    with torch._C._AutoDispatchBelowAutograd():  # its way to gradients costs as much as the operator
        return torch.ops.pcperc.sparse_conv(*inputs)


def sparse_conv_fused(
    feats: Tensor,
    weight: Tensor,
    neighbors: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    groups: int = 1,
    negative_slope: float = 1.0,
    row_order: Tensor | None = None,
) -> Tensor:
    """Convolve, add a residual and apply a (leaky) ReLU in one pass, for inference.

    ``out = act(sparse_conv(feats, weight, neighbors, bias=bias) + residual)`` where act(x) is x for x >= 0 and
    ``negative_slope * x`` below. The sum is kept in float32 (float64 for float64) until it is stored, so half-precision
    results are rounded once, not after each step.

    Args:
        feats, weight, neighbors, bias, groups, row_order: as in ``sparse_conv``; TF32 too.
        residual: (M, Cout) in the dtype of feats, or None.
        negative_slope: 1 is no activation, 0 is ReLU; any finite number.
    Returns:
        (M, Cout) in the dtype of feats; M = 0 gives an empty tensor.
    Raises:
        TypeError: not a tensor, or negative_slope not a number.
        ValueError: wrong shape, dtype or device; negative_slope not finite; an input that needs a gradient while
            gradients are recorded: there is none.
    Deterministic: yes, and on the CPU for every number of threads.
    """
    op = "sparse_conv_fused"
    feats, weight, bias = _autocast(feats, weight, bias)
    if isinstance(residual, Tensor) and _is_autocast(feats):
        residual = residual.to(feats.dtype)
    _check(op, feats, weight, neighbors, bias, groups)
    if residual is not None:
        _check_residual(op, feats, weight, neighbors, residual)
    _check_order(op, "row_order", row_order, neighbors)
    if isinstance(negative_slope, bool) or not isinstance(negative_slope, int | float):
        raise TypeError(f"{op}: negative_slope must be a number, got {describe(negative_slope)}")
    if not -math.inf < negative_slope < math.inf:
        raise ValueError(f"{op}: negative_slope must be finite, got {negative_slope}")
    for name, tensor in {"feats": feats, "weight": weight, "bias": bias, "residual": residual}.items():
        if tensor is not None and tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"{op}: {name} must need no gradient (inference only: torch.no_grad()), got requires_grad")
    return torch.ops.pcperc.sparse_conv_fused(
        feats, weight, neighbors, bias, residual, groups, _allow_tf32(feats), float(negative_slope), row_order
    )


def _autocast(feats: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cast what autocast would cast; float32 parameters stay, the operator rounds them itself."""
    if not _is_autocast(feats):
        return feats, weight, bias
    if feats.dtype not in FLOAT_DTYPES or feats.dtype == torch.float64:
        return feats, weight, bias
    feats = feats.to(torch.get_autocast_dtype(feats.device.type))
    if isinstance(weight, Tensor) and weight.dtype in _HALF_DTYPES:
        weight, bias = weight.to(feats.dtype), None if bias is None else bias.to(feats.dtype)
    return feats, weight, bias


def _is_autocast(feats: Tensor) -> bool:
    """Whether autocast is on for the device of feats; torch raises for meta, which has none."""
    return isinstance(feats, Tensor) and not feats.is_meta and torch.is_autocast_enabled(feats.device.type)


def _allow_tf32(feats: Tensor) -> bool:
    return feats.is_cuda and feats.dtype == torch.float32 and _tf32_is_on()


def _tf32_is_on() -> bool:
    """Read torch's switch. ``fp32_precision`` follows every way to set it; the older name fails where both are used."""
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


# torch.compile cannot trace the switch but compiles anew where it changes, so that a traced value stays true. This is
# torch.compiler.assume_constant_result without its import of torch._dynamo, which takes longer than that of torch.
_tf32_is_on._dynamo_marked_constant = True


def _check(op: str, feats: Tensor, weight: Tensor, neighbors: Tensor, bias: Tensor | None, groups: int) -> None:
    positive_int(op, "groups", groups)
    for name, tensor in {"feats": feats, "weight": weight, "bias": bias}.items():
        if name != "bias" or bias is not None:
            check_tensor(op, name, tensor)
    if feats.ndim != 2 or feats.dtype not in FLOAT_DTYPES:
        raise ValueError(f"{op}: feats must be (N, Cin) float64, float32, float16 or bfloat16, got {describe(feats)}")
    if weight.ndim != 3 or weight.shape[1] * groups != feats.shape[1] or weight.shape[2] % groups:
        form = (
            f"(K, {feats.shape[1]}, Cout)" if groups == 1 else f"(K, {feats.shape[1]} / {groups}, multiple of {groups})"
        )
        raise ValueError(f"{op}: weight must be {form}, got {describe(weight)}")
    is_mixed = weight.dtype == torch.float32 and feats.dtype in _HALF_DTYPES
    if weight.dtype != feats.dtype and not is_mixed:
        raise ValueError(f"{op}: weight must have the dtype of feats, {describe(feats)}, got {describe(weight)}")
    if bias is not None and (bias.shape != weight.shape[2:] or bias.dtype != weight.dtype):
        raise ValueError(
            f"{op}: bias must be ({weight.shape[2]},) in the dtype of weight, {describe(weight)}, got {describe(bias)}"
        )
    check_table(op, "neighbors", neighbors)
    if neighbors.shape[0] != weight.shape[0]:
        raise ValueError(f"{op}: neighbors must be ({weight.shape[0]}, M) int32, got {describe(neighbors)}")
    check_same_device(op, feats=feats, weight=weight, neighbors=neighbors, bias=bias)


def _check_reverse(feats: Tensor, neighbors: Tensor, reverse_neighbors: Tensor | None) -> None:
    op, form = "sparse_conv", (neighbors.shape[0], feats.shape[0])
    if reverse_neighbors is not None:
        check_table(op, "reverse_neighbors", reverse_neighbors)
        if reverse_neighbors.shape != form:
            raise ValueError(f"{op}: reverse_neighbors must be {form} int32, got {describe(reverse_neighbors)}")
        check_same_device(op, feats=feats, reverse_neighbors=reverse_neighbors)
    elif feats.requires_grad and torch.is_grad_enabled():
        raise ValueError(f"{op}: reverse_neighbors must be given where feats need a gradient, got None")


def _check_order(op: str, name: str, order: Tensor | None, table: Tensor | None) -> None:
    if order is None:
        return
    check_tensor(op, name, order)
    form = None if table is None else table.shape[1:]
    if order.shape != form or order.dtype != torch.int32:
        expected = f"{tuple(form)} int32" if form else f"None without {name.replace('row_order', 'neighbors')}"
        raise ValueError(f"{op}: {name} must be {expected}, got {describe(order)}")
    check_same_device(op, neighbors=table, **{name: order})


def _check_residual(op: str, feats: Tensor, weight: Tensor, neighbors: Tensor, residual: Tensor) -> None:
    check_tensor(op, "residual", residual)
    form = (neighbors.shape[1], weight.shape[2])
    if residual.shape != form or residual.dtype != feats.dtype:
        raise ValueError(f"{op}: residual must be {form} in the dtype of feats, got {describe(residual)}")
    check_same_device(op, feats=feats, residual=residual)


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


class _EagerConv(torch.autograd.Function):
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
