# SPDX-License-Identifier: Apache-2.0
"""The kernel map of a convolution as a neighbour table, in both directions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import check_coords, check_same_device, check_table, conv_parameters, describe


def build_kernel_map(
    in_coords: Tensor,
    out_coords: Tensor,
    *,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    check: bool = True,
) -> Tensor:
    """Find the input row under each tap of each output row.

    Tap ``t`` of output ``o`` looks at input ``stride * o + dilation * t - padding`` of the same batch item. Taps are
    numbered lexicographically over the axes, the last one fastest.

    Args:
        in_coords: (N, 1 + D) int32, distinct rows in the range of ``unique_coords``, any order. A row of batch index -1
            is padding: it may repeat, is left out of the search and so is nobody's neighbour.
        out_coords: (M, 1 + D) int32 on the same device, in the same range. A row of batch index -1 is padding and has
            no neighbours: its column is -1.
        kernel_size, stride, padding, dilation: one whole number for all axes or D of them; padding >= 0, the others
            >= 1; at most 4096 taps.
        check: False where the rows are known to be distinct and in range, as those of :func:`downsample_coords` are. A
            GPU then does not wait for the answer; had a row been wrong, the table would be, but no entry of it would be
            outside [-1, N). A CPU checks in any case.
    Returns:
        neighbors (K, M) int32: a row of ``in_coords``, or -1 where there is none.
    Raises:
        TypeError: not a tensor, or a parameter that is no whole number.
        ValueError: wrong shape, dtype, device or parameter; the first row that is out of range or, in ``in_coords``,
            repeats an earlier one.
    Source: the index formula of torch.nn.Conv3d.
    Deterministic: yes, the same table on CPU and CUDA. Not differentiable.
    """
    op = "build_kernel_map"
    check_coords(op, "in_coords", in_coords)
    check_coords(op, "out_coords", out_coords)
    check_same_device(op, in_coords=in_coords, out_coords=out_coords)
    columns = in_coords.shape[1]
    if out_coords.shape[1] != columns:
        raise ValueError(f"{op}: out_coords must have {columns} columns like in_coords, got {describe(out_coords)}")
    parameters = conv_parameters(op, columns - 1, kernel_size, stride, padding, dilation)
    return torch.ops.pcperc.build_kernel_map(in_coords, out_coords, *parameters, check)


def reverse_kernel_map(neighbors: Tensor, *, num_inputs: int, check: bool = True) -> Tensor:
    """Turn a neighbour table round: the output row that each input row feeds under each tap.

    Args:
        neighbors: (K, M) int32 with values in [-1, num_inputs), from :func:`build_kernel_map`.
        num_inputs: N, the number of input rows, >= 0.
        check: False where the table is known to be one of distinct rows; see :func:`build_kernel_map`.
    Returns:
        reverse_neighbors (K, N) int32: ``reverse_neighbors[k, n] = m`` where ``neighbors[k, m] = n``, else -1.
    Raises:
        TypeError: not a tensor, or num_inputs no whole number.
        ValueError: wrong shape or dtype, a value >= num_inputs, or an input row that occurs twice under one tap (output
            coordinates were repeated); the entry is named.
    Deterministic: yes, the same table on CPU and CUDA. Not differentiable.
    """
    check_table("reverse_kernel_map", "neighbors", neighbors)
    if isinstance(num_inputs, bool) or not isinstance(num_inputs, int | torch.SymInt):
        raise TypeError(f"reverse_kernel_map: num_inputs must be a whole number, got {num_inputs!r}")
    if num_inputs < 0:
        raise ValueError(f"reverse_kernel_map: num_inputs must be >= 0, got {num_inputs}")
    return torch.ops.pcperc.reverse_kernel_map(neighbors, num_inputs, check)


@torch.library.register_fake("pcperc::build_kernel_map")
def _(in_coords, out_coords, kernel_size, stride, padding, dilation, check=True) -> Tensor:
    return in_coords.new_empty((math.prod(kernel_size), out_coords.shape[0]))


@torch.library.register_fake("pcperc::reverse_kernel_map")
def _(neighbors: Tensor, num_inputs: int, check: bool = True) -> Tensor:
    return neighbors.new_empty((neighbors.shape[0], num_inputs))
