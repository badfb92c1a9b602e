# SPDX-License-Identifier: Apache-2.0
"""The columns of a neighbour table in an order that saves a GPU work."""

from typing import NamedTuple

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import check_table


class OrderedRows(NamedTuple):
    """Result of :func:`order_rows`."""

    neighbors: Tensor  # (K, M) int32, the columns of the table in order
    row_order: Tensor  # (M,) int32, the output row of each of these columns


def order_rows(neighbors: Tensor) -> OrderedRows:
    """Bring the columns of a neighbour table together that have neighbours under the same taps.

    A tile of columns then meets few taps, which is what a convolution on a GPU pays for. The taps of a column, the one
    that the fewest columns have first, are read as a number in Gray code; columns are sorted by its place in the code,
    descending, so that those of many taps come first. Columns with the same taps stay in order.

    Args:
        neighbors: (K, M) int32 from ``build_kernel_map`` or ``reverse_kernel_map``, K < 65536, M < 2**31; a negative
            number is no neighbour.
    Returns:
        OrderedRows, for ``sparse_conv`` and ``sparse_conv_fused``.
    Raises:
        TypeError: not a tensor.
        ValueError: wrong shape or dtype.
    Source: sorting by bit mask is from Tang et al., TorchSparse++, MICRO 2023; by Gray code from FlexGEMM.
    Deterministic: yes, the same order on CPU and CUDA. Not differentiable.
    """
    check_table("order_rows", "neighbors", neighbors)
    return OrderedRows(*torch.ops.pcperc.order_rows(neighbors))


@torch.library.register_fake("pcperc::order_rows")
def _(neighbors: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(neighbors, memory_format=torch.contiguous_format), neighbors.new_empty(neighbors.shape[1])
