# SPDX-License-Identifier: Apache-2.0
"""The convolutions as layers call them: along tables that a kernel map made.

Without gradients, what a layer gives goes to the operator as it is. The operator refuses what it cannot compute, and
only then the checks of the public function say in our words what that is: they take as long as the operator itself.
"""

import torch
from torch import Tensor

from pcperc.ops._conv_arguments import allow_tf32, autocast, check_conv, check_residual, is_autocast
from pcperc.ops.sparse_conv import sparse_conv, sparse_conv_fused


def sparse_conv_of_layer(
    feats: Tensor,
    weight: Tensor,
    neighbors: Tensor,
    reverse_neighbors: Tensor | None,
    row_order: Tensor | None,
    reverse_row_order: Tensor | None,
    bias: Tensor | None,
    groups: int,
) -> Tensor:
    """``ops.sparse_conv``."""
    if _must_look(feats, weight):
        orders = {"row_order": row_order, "reverse_row_order": reverse_row_order}
        return sparse_conv(feats, weight, neighbors, reverse_neighbors, bias, groups=groups, **orders)
    if torch._C._is_any_autocast_enabled():
        feats, weight, bias = autocast(feats, weight, bias)
    try:
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.pcperc.sparse_conv(
                feats, weight, neighbors, None, bias, groups, allow_tf32(feats), row_order, None
            )
    except RuntimeError:
        check_conv("sparse_conv", feats, weight, neighbors, bias, groups)
        raise


def sparse_conv_fused_of_layer(
    feats: Tensor,
    weight: Tensor,
    neighbors: Tensor,
    row_order: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    groups: int,
    negative_slope: float,
) -> Tensor:
    """``ops.sparse_conv_fused``."""
    if _must_look(feats, weight):
        options = {"groups": groups, "negative_slope": negative_slope, "row_order": row_order}
        return sparse_conv_fused(feats, weight, neighbors, bias, residual, **options)
    if torch._C._is_any_autocast_enabled():
        feats, weight, bias = autocast(feats, weight, bias)
        if residual is not None and is_autocast(feats):
            residual = residual.to(feats.dtype)
    try:
        return torch.ops.pcperc.sparse_conv_fused(
            feats, weight, neighbors, bias, residual, groups, allow_tf32(feats), negative_slope, row_order
        )
    except RuntimeError:
        check_conv("sparse_conv_fused", feats, weight, neighbors, bias, groups)
        if residual is not None:
            check_residual("sparse_conv_fused", feats, weight, neighbors, residual)
        raise


def _must_look(feats: Tensor, weight: Tensor) -> bool:
    """Whether the public function must check: where gradients are recorded, and where no operator runs that would."""
    return torch.is_grad_enabled() or feats.is_meta or weight.is_meta or torch.compiler.is_compiling()
