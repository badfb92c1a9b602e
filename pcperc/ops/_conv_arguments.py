# SPDX-License-Identifier: Apache-2.0
"""What the convolutions do with their arguments before they compute: casts, torch's switch for TF32, checks."""

import torch
from torch import Tensor

from pcperc.ops._checks import FLOAT_DTYPES, check_same_device, check_table, check_tensor, describe, positive_int
from pcperc.ops.tap_pairs import TapPairs

HALF_DTYPES = (torch.float16, torch.bfloat16)
_AUTOCAST_DTYPES = (*HALF_DTYPES, torch.float32)


def autocast(feats: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cast what autocast would cast; float32 parameters stay, the operator rounds them itself."""
    if not is_autocast(feats) or feats.dtype not in _AUTOCAST_DTYPES:
        return feats, weight, bias
    dtype = torch.get_autocast_dtype(feats.device.type)
    if feats.dtype != dtype:
        feats = feats.to(dtype)
    if isinstance(weight, Tensor) and weight.dtype in HALF_DTYPES:
        weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    return feats, weight, bias


def conv_dtype(feats: Tensor) -> torch.dtype:
    """The type in which feats are convolved, and that of the result."""
    if not is_autocast(feats) or feats.dtype not in _AUTOCAST_DTYPES:
        return feats.dtype
    return torch.get_autocast_dtype(feats.device.type)


def is_autocast(feats: Tensor) -> bool:
    """Whether autocast is on for the device of feats; torch raises for meta, which has none."""
    return isinstance(feats, Tensor) and not feats.is_meta and torch.is_autocast_enabled(feats.device.type)


def allow_tf32(feats: Tensor) -> bool:
    return feats.is_cuda and feats.dtype == torch.float32 and _tf32_is_on()


def _tf32_is_on() -> bool:
    """Read torch's switch. ``fp32_precision`` follows every way to set it; the older name fails where both are used."""
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


# torch.compile cannot trace the switch but compiles anew where it changes, so that a traced value stays true. This is
# torch.compiler.assume_constant_result without its import of torch._dynamo, which takes longer than that of torch.
_tf32_is_on._dynamo_marked_constant = True


def check_conv(op: str, feats: Tensor, weight: Tensor, neighbors: Tensor, bias: Tensor | None, groups: int) -> None:
    if (  # in one expression: a network asks it of every layer
        isinstance(feats, Tensor)
        and isinstance(weight, Tensor)
        and isinstance(neighbors, Tensor)
        and bias is None
        and type(groups) is int
        and groups > 0
        and feats.ndim == neighbors.ndim == weight.ndim - 1 == 2
        and (weight.shape[0], weight.shape[1] * groups) == (neighbors.shape[0], feats.shape[1])
        and weight.shape[2] % groups == 0
        and feats.dtype in FLOAT_DTYPES
        and (weight.dtype == feats.dtype or (weight.dtype == torch.float32 and feats.dtype in HALF_DTYPES))
        and neighbors.dtype == torch.int32
        and feats.device == weight.device == neighbors.device
    ):
        return
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
    is_mixed = weight.dtype == torch.float32 and feats.dtype in HALF_DTYPES
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


def check_reverse(op: str, feats: Tensor, neighbors: Tensor, reverse_neighbors: Tensor | None) -> None:
    form = (neighbors.shape[0], feats.shape[0])
    if reverse_neighbors is not None:
        check_table(op, "reverse_neighbors", reverse_neighbors)
        if reverse_neighbors.shape != form:
            raise ValueError(f"{op}: reverse_neighbors must be {form} int32, got {describe(reverse_neighbors)}")
        check_same_device(op, feats=feats, reverse_neighbors=reverse_neighbors)
    elif feats.requires_grad and torch.is_grad_enabled():
        raise ValueError(f"{op}: reverse_neighbors must be given where feats need a gradient, got None")


def check_order(op: str, name: str, order: Tensor | None, table: Tensor | None) -> None:
    if order is None:
        return
    check_tensor(op, name, order)
    form = None if table is None else table.shape[1:]
    if order.shape != form or order.dtype != torch.int32:
        expected = f"{tuple(form)} int32" if form else f"None without {name.replace('row_order', 'neighbors')}"
        raise ValueError(f"{op}: {name} must be {expected}, got {describe(order)}")
    check_same_device(op, neighbors=table, **{name: order})


def check_pairs(op: str, pairs: TapPairs | None, feats: Tensor, neighbors: Tensor, row_order: Tensor | None) -> None:
    """Require the pairs of this very table: those of another would name rows that do not exist."""
    if pairs is None:
        return
    if not isinstance(pairs, TapPairs):
        raise TypeError(f"{op}: pairs must be TapPairs or None, got {describe(pairs)}")
    if pairs.neighbors is not neighbors or pairs.row_order is not row_order or pairs.num_inputs != feats.shape[0]:
        raise ValueError(f"{op}: pairs must be those of neighbors, row_order and {feats.shape[0]} inputs, got others")


def check_residual(op: str, feats: Tensor, weight: Tensor, neighbors: Tensor, residual: Tensor) -> None:
    check_tensor(op, "residual", residual)
    form = (neighbors.shape[1], weight.shape[2])
    if residual.shape != form or residual.dtype != feats.dtype:
        raise ValueError(f"{op}: residual must be {form} in the dtype of feats, got {describe(residual)}")
    check_same_device(op, feats=feats, residual=residual)
