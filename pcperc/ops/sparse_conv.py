# SPDX-License-Identifier: Apache-2.0
"""Convolution of features along a kernel map, with both gradients, and with what follows it fused for inference."""

import math

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import describe
from pcperc.ops._conv_arguments import (
    allow_tf32,
    autocast,
    check_conv,
    check_order,
    check_pairs,
    check_residual,
    check_reverse,
    is_autocast,
)
from pcperc.ops._conv_gradients import EagerConv
from pcperc.ops.tap_pairs import TapPairs


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
    pairs: TapPairs | None = None,
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
        pairs: those of ``neighbors`` for the gradient of weight, shared by the layers along this table; None: on a GPU
            each backward pass lists its own.
    Returns:
        (M, Cout) in the dtype of feats; M = 0 gives an empty tensor, a row without neighbours the bias.
    Raises:
        TypeError: not a tensor.
        ValueError: wrong shape, dtype or device; feats that need a gradient without reverse_neighbors.
    Source: Graham, Engelcke, van der Maaten, "3D Semantic Segmentation with Submanifold Sparse Convolutional Networks",
        CVPR 2018, section 3.
    Deterministic: yes, forward and backward, and on the CPU for every number of threads. Twice differentiable.
    """
    feats, weight, bias = autocast(feats, weight, bias)
    check_conv("sparse_conv", feats, weight, neighbors, bias, groups)
    check_reverse("sparse_conv", feats, neighbors, reverse_neighbors)
    check_order("sparse_conv", "row_order", row_order, neighbors)
    check_pairs("sparse_conv", pairs, feats, neighbors, row_order)
    check_order("sparse_conv", "reverse_row_order", reverse_row_order, reverse_neighbors)
    options = groups, allow_tf32(feats)
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        tables = neighbors, reverse_neighbors, row_order, reverse_row_order
        return EagerConv.apply(feats, weight, bias, tables, options, pairs)
    inputs = feats, weight, neighbors, reverse_neighbors, bias, *options, row_order, reverse_row_order
    if torch.compiler.is_compiling():
        return torch.ops.pcperc.sparse_conv(*inputs)
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
    feats, weight, bias = autocast(feats, weight, bias)
    if isinstance(residual, Tensor) and is_autocast(feats):
        residual = residual.to(feats.dtype)
    check_conv(op, feats, weight, neighbors, bias, groups)
    if residual is not None:
        check_residual(op, feats, weight, neighbors, residual)
    check_order(op, "row_order", row_order, neighbors)
    if isinstance(negative_slope, bool) or not isinstance(negative_slope, int | float):
        raise TypeError(f"{op}: negative_slope must be a number, got {describe(negative_slope)}")
    if not -math.inf < negative_slope < math.inf:
        raise ValueError(f"{op}: negative_slope must be finite, got {negative_slope}")
    for name, tensor in {"feats": feats, "weight": weight, "bias": bias, "residual": residual}.items():
        if tensor is not None and tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"{op}: {name} must need no gradient (inference only: torch.no_grad()), got requires_grad")
    return torch.ops.pcperc.sparse_conv_fused(
        feats, weight, neighbors, bias, residual, groups, allow_tf32(feats), float(negative_slope), row_order
    )
