# SPDX-License-Identifier: Apache-2.0
"""Distinct coordinates, and the output coordinates of a strided convolution."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import check_coords, to_triple


class UniqueCoords(NamedTuple):
    """Result of :func:`unique_coords`."""

    coords: Tensor  # (M, 4) int32, sorted by key
    inverse: Tensor  # (N,) int64, row of ``coords`` that each input row became
    counts: Tensor  # (M,) int64, how many input rows became each row of ``coords``


def unique_coords(coords: Tensor) -> UniqueCoords:
    """Sort coordinates by key and drop the repeated ones.

    Keys order rows lexicographically by (batch, x, y, z), negative values before positive ones.

    Args:
        coords: (N, 4) int32 ``[batch, x, y, z]``; batch in [0, 1022], x, y, z in [-131072, 131071].
    Returns:
        UniqueCoords. M = 0 for N = 0.
    Raises:
        TypeError: not a tensor.
        ValueError: wrong shape or dtype, or a row out of range (the first such row is named).
    Deterministic: yes, the same rows on CPU and CUDA. Not differentiable.
    """
    check_coords("unique_coords", "coords", coords)
    return UniqueCoords(*torch.ops.pcperc.unique_coords(coords))


def downsample_coords(
    coords: Tensor,
    *,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    spatial_shape: Sequence[int] | None = None,
) -> Tensor:
    """Find every output coordinate that a convolution reaches from the given inputs.

    Output ``o`` is among them where ``in = stride * o + dilation * tap - padding`` holds for some input and some tap,
    as in ``torch.nn.Conv3d``.

    Args:
        coords: (N, 4) int32 ``[batch, x, y, z]``, in the range of :func:`unique_coords`; repeated rows are allowed.
        kernel_size, stride, padding, dilation: one number for all axes or three; padding >= 0, the others >= 1.
        spatial_shape: (X, Y, Z) of the input lattice. Outputs outside torch's output size are then dropped; without it
            the lattice has no borders.
    Returns:
        (M_out, 4) int32, distinct and sorted by key. M_out = 0 for N = 0.
    Raises:
        TypeError: not a tensor, or a parameter that is no whole number.
        ValueError: wrong shape, dtype or parameter, or a row that is out of range or makes an output out of range.
    Source: the index formula of torch.nn.Conv3d.
    Deterministic: yes, the same rows on CPU and CUDA. Not differentiable.
    """
    op = "downsample_coords"
    check_coords(op, "coords", coords)
    kernel_size = to_triple(op, "kernel_size", kernel_size, low=1)
    stride = to_triple(op, "stride", stride, low=1)
    padding = to_triple(op, "padding", padding, low=0)
    dilation = to_triple(op, "dilation", dilation, low=1)
    output_shape = ()
    if spatial_shape is not None:
        spatial_shape = to_triple(op, "spatial_shape", spatial_shape, low=1)
        output_shape = conv_output_shape(spatial_shape, kernel_size, stride, padding, dilation)
    return torch.ops.pcperc.downsample_coords(coords, kernel_size, stride, padding, dilation, output_shape)


def conv_output_shape(
    spatial_shape: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[int, ...]:
    """Return torch.nn.Conv3d's output size for each axis; below 1 where the kernel exceeds the padded input."""
    axes = zip(spatial_shape, kernel_size, stride, padding, dilation, strict=True)
    return tuple((size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in axes)


@torch.library.register_fake("pcperc::unique_coords")
def _(coords: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    num_unique = torch.library.get_ctx().new_dynamic_size()
    inverse = coords.new_empty((coords.shape[0],), dtype=torch.int64)
    return coords.new_empty((num_unique, 4)), inverse, coords.new_empty((num_unique,), dtype=torch.int64)


@torch.library.register_fake("pcperc::downsample_coords")
def _(coords, kernel_size, stride, padding, dilation, output_shape) -> Tensor:
    return coords.new_empty((torch.library.get_ctx().new_dynamic_size(), 4))
