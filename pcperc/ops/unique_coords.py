# SPDX-License-Identifier: Apache-2.0
"""Distinct coordinates, and the coordinates that a convolution reaches in either direction.

A row whose batch index is -1 is padding: it stands for no voxel, and every operator on coordinates passes over it. With
a ``capacity`` an operator returns that many rows, padding behind the real ones, and does not wait for a GPU to learn
how many there are: it can be captured in a CUDA graph.
"""

from collections.abc import Sequence
from typing import NamedTuple, overload

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import check_coords, conv_parameters, positive_int, to_tuple


class UniqueCoords(NamedTuple):
    """Result of :func:`unique_coords`."""

    coords: Tensor  # (M, 1 + D) int32, sorted by key
    inverse: Tensor  # (N,) int64, row of ``coords`` that each input row became
    counts: Tensor  # (M,) int64, how many input rows became each row of ``coords``


class PaddedUniqueCoords(NamedTuple):
    """Result of :func:`unique_coords` with a capacity C."""

    coords: Tensor  # (C, 1 + D) int32, sorted by key, then rows of padding [-1, 0, ...]
    inverse: Tensor  # (N,) int64, row of ``coords`` that each input row became, or -1
    counts: Tensor  # (C,) int64, how many input rows became each row of ``coords``
    incomplete: Tensor  # () bool, whether rows had no room or were out of range: those are left out


class PaddedCoords(NamedTuple):
    """Result of :func:`downsample_coords` with a capacity C."""

    coords: Tensor  # (C, 1 + D) int32, sorted by key, then rows of padding [-1, 0, ...]
    incomplete: Tensor  # () bool, whether rows had no room or were out of range: those are left out


@overload
def unique_coords(coords: Tensor) -> UniqueCoords: ...


@overload
def unique_coords(coords: Tensor, *, capacity: int) -> PaddedUniqueCoords: ...


def unique_coords(coords: Tensor, *, capacity: int | None = None) -> UniqueCoords | PaddedUniqueCoords:
    """Sort coordinates by key and drop the repeated ones.

    Keys order rows lexicographically by (batch, x, y, ...), negative values before positive ones.

    Args:
        coords: (N, 1 + D) int32 ``[batch, x, (y, (z, (t)))]`` with D from 1 to 4. For D up to 3 the batch index is in
            [0, 1022] and every coordinate in [-131072, 131071]; for D = 4 in [0, 254] and [-8192, 8191]. A row of batch
            index -1 is padding and is left out, with and without a capacity; its ``inverse`` is -1.
        capacity: C > 0, the number of rows to return; None for as many as there are.
    Returns:
        UniqueCoords, M = 0 for N = 0; with a capacity PaddedUniqueCoords. Which rows are left out where there are more
        than the capacity is not defined.
    Raises:
        TypeError: not a tensor, or a capacity that is no whole number.
        ValueError: wrong shape or dtype, or, without a capacity, a row out of range (the first such row is named).
    Deterministic: yes, the same rows on CPU and CUDA. Not differentiable.
    """
    check_coords("unique_coords", "coords", coords)
    if capacity is None:
        return UniqueCoords(*torch.ops.pcperc.unique_coords(coords))
    capacity = positive_int("unique_coords", "capacity", capacity)
    return PaddedUniqueCoords(*torch.ops.pcperc.unique_coords_padded(coords, capacity))


@overload
def downsample_coords(
    coords: Tensor,
    *,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    spatial_shape: int | Sequence[int] | None = None,
) -> Tensor: ...


@overload
def downsample_coords(
    coords: Tensor,
    *,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    spatial_shape: int | Sequence[int] | None = None,
    capacity: int,
) -> PaddedCoords: ...


def downsample_coords(
    coords: Tensor,
    *,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    spatial_shape: int | Sequence[int] | None = None,
    capacity: int | None = None,
) -> Tensor | PaddedCoords:
    """Find every output coordinate that a convolution reaches from the given inputs.

    Output ``o`` is among them where ``in = stride * o + dilation * tap - padding`` holds for some input and some tap,
    as in ``torch.nn.Conv3d``.

    Args:
        coords: (N, 1 + D) int32, in the range of :func:`unique_coords`; repeated rows are allowed. A row of batch index
            -1 is padding and is left out, with and without a capacity.
        kernel_size, stride, padding, dilation: one whole number for all axes or D of them; padding >= 0, the others
            >= 1; at most 4096 taps.
        spatial_shape: size of the input lattice, one whole number >= 1 or D of them. Outputs outside torch's output
            size are then dropped; without it the lattice has no borders.
        capacity: C > 0, the number of rows to return; None for as many as there are. On a GPU the rows are then found
            faster with a ``spatial_shape``.
    Returns:
        (M_out, 1 + D) int32, distinct and sorted by key, M_out = 0 for N = 0; with a capacity PaddedCoords. Which rows
        are left out where there are more than the capacity is not defined.
    Raises:
        TypeError: not a tensor, or a parameter that is no whole number.
        ValueError: wrong shape, dtype or parameter, or, without a capacity, a row that is out of range or makes an
            output out of range.
    Source: the index formula of torch.nn.Conv3d.
    Deterministic: yes, the same rows on CPU and CUDA. Not differentiable.
    """
    op = "downsample_coords"
    check_coords(op, "coords", coords)
    dims = coords.shape[1] - 1
    parameters = conv_parameters(op, dims, kernel_size, stride, padding, dilation)
    output_shape = ()
    if spatial_shape is not None:
        output_shape = conv_output_shape(to_tuple(op, "spatial_shape", spatial_shape, dims, low=1), *parameters)
    if capacity is None:
        return torch.ops.pcperc.downsample_coords(coords, *parameters, output_shape)
    capacity = positive_int(op, "capacity", capacity)
    return PaddedCoords(*torch.ops.pcperc.downsample_coords_padded(coords, *parameters, output_shape, capacity))


def upsample_coords(
    coords: Tensor,
    *,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    output_shape: int | Sequence[int] | None = None,
) -> Tensor:
    """Find every output coordinate that a transposed convolution reaches from the given inputs.

    These are all ``stride * in + dilation * tap - padding``, as in ``torch.nn.ConvTranspose3d``.

    Args:
        coords: (N, 1 + D) int32, in the range of :func:`unique_coords`; repeated rows are allowed. A row of batch index
            -1 is padding and is left out.
        kernel_size, stride, padding, dilation: those of the convolution whose transpose it is, as in
            :func:`downsample_coords`.
        output_shape: size of the output lattice, one whole number >= 1 or D of them. Outputs outside it are then
            dropped; without it the lattice has no borders.
    Returns:
        (M_out, 1 + D) int32, distinct and sorted by key. M_out = 0 for N = 0.
    Raises:
        TypeError: not a tensor, or a parameter that is no whole number.
        ValueError: wrong shape, dtype or parameter, or a row that is out of range or makes an output out of range.
    Source: the index formula of torch.nn.ConvTranspose3d.
    Deterministic: yes, the same rows on CPU and CUDA. Not differentiable.
    """
    op = "upsample_coords"
    check_coords(op, "coords", coords)
    dims = coords.shape[1] - 1
    parameters = conv_parameters(op, dims, kernel_size, stride, padding, dilation)
    shape = () if output_shape is None else to_tuple(op, "output_shape", output_shape, dims, low=1)
    return torch.ops.pcperc.upsample_coords(coords, *parameters, shape)


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
    return coords.new_empty((num_unique, coords.shape[1])), inverse, coords.new_empty((num_unique,), dtype=torch.int64)


@torch.library.register_fake("pcperc::unique_coords_padded")
def _(coords: Tensor, capacity: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    inverse = coords.new_empty((coords.shape[0],), dtype=torch.int64)
    counts = coords.new_empty((capacity,), dtype=torch.int64)
    return coords.new_empty((capacity, coords.shape[1])), inverse, counts, coords.new_empty((), dtype=torch.bool)


@torch.library.register_fake("pcperc::downsample_coords_padded")
def _(coords, kernel_size, stride, padding, dilation, output_shape, capacity) -> tuple[Tensor, Tensor]:
    return coords.new_empty((capacity, coords.shape[1])), coords.new_empty((), dtype=torch.bool)


@torch.library.register_fake("pcperc::downsample_coords")
@torch.library.register_fake("pcperc::upsample_coords")
def _(coords, kernel_size, stride, padding, dilation, output_shape) -> Tensor:
    return coords.new_empty((torch.library.get_ctx().new_dynamic_size(), coords.shape[1]))
