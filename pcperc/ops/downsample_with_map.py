# SPDX-License-Identifier: Apache-2.0
"""A step down whose windows do not overlap: new coordinates and both tables of its kernel map at once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import check_coords, conv_parameters, positive_int, to_tuple
from pcperc.ops.unique_coords import conv_output_shape


class DownsampledMap(NamedTuple):
    """Result of :func:`downsample_with_map`."""

    coords: Tensor  # (M, 1 + D) int32, as of downsample_coords
    neighbors: Tensor  # (K, M) int32, as of build_kernel_map
    reverse_neighbors: Tensor  # (K, N) int32, as of reverse_kernel_map
    incomplete: Tensor | None  # () bool, as of downsample_coords; None without a capacity


def downsample_with_map(
    coords: Tensor,
    *,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int],
    padding: int | Sequence[int] = 0,
    spatial_shape: int | Sequence[int] | None = None,
    capacity: int | None = None,
) -> DownsampledMap:
    """Do the work of ``downsample_coords``, ``build_kernel_map`` and ``reverse_kernel_map`` in half the launches.

    Each input feeds one output at most, so that whoever sorts the outputs knows both tables, and nothing is looked up.

    Args:
        coords: (N, 1 + D) int32, in the range of ``unique_coords``, distinct rows but for padding. A GPU does not look
            whether they are: had a row been repeated, it might be left out of the tables.
        kernel_size, stride, padding: one whole number for all axes or D of them; no kernel_size above its stride.
        spatial_shape, capacity: as in ``downsample_coords``.
    Raises:
        TypeError, ValueError: as ``downsample_coords``; windows that overlap.
    Deterministic: yes, the same rows and tables on CPU and CUDA. Not differentiable.
    """
    op = "downsample_with_map"
    check_coords(op, "coords", coords)
    dims = coords.shape[1] - 1
    kernel_size, stride, padding, dilation = conv_parameters(op, dims, kernel_size, stride, padding, 1)
    if any(k > s for k, s in zip(kernel_size, stride, strict=True)):
        raise ValueError(f"{op}: kernel_size must be at most the stride {stride}, got {kernel_size}")
    shape = ()
    if spatial_shape is not None:
        spatial_shape = to_tuple(op, "spatial_shape", spatial_shape, dims, low=1)
        shape = conv_output_shape(spatial_shape, kernel_size, stride, padding, dilation)
    arguments = coords, kernel_size, stride, padding, shape
    if capacity is None:
        return DownsampledMap(*torch.ops.pcperc.downsample_with_map(*arguments), None)
    capacity = positive_int(op, "capacity", capacity)
    return DownsampledMap(*torch.ops.pcperc.downsample_with_map_padded(*arguments, capacity))


@torch.library.impl("pcperc::downsample_with_map", "CPU")
def _(coords, kernel_size, stride, padding, output_shape) -> tuple[Tensor, Tensor, Tensor]:
    ones = [1] * len(stride)
    found = torch.ops.pcperc.downsample_coords(coords, kernel_size, stride, padding, ones, output_shape)
    return found, *_tables(coords, found, kernel_size, stride, padding)


@torch.library.impl("pcperc::downsample_with_map_padded", "CPU")
def _(coords, kernel_size, stride, padding, output_shape, capacity) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    ones = [1] * len(stride)
    options = kernel_size, stride, padding, ones, output_shape
    found, incomplete = torch.ops.pcperc.downsample_coords_padded(coords, *options, capacity)
    return found, *_tables(coords, found, kernel_size, stride, padding), incomplete


def _tables(coords: Tensor, found: Tensor, kernel_size, stride, padding) -> tuple[Tensor, Tensor]:
    geometry = kernel_size, stride, padding, [1] * len(stride)
    neighbors = torch.ops.pcperc.build_kernel_map(coords, found, *geometry, False)
    return neighbors, torch.ops.pcperc.reverse_kernel_map(neighbors, coords.shape[0], False)


def _fake(coords: Tensor, kernel_size: Sequence[int], rows: int | torch.SymInt) -> tuple[Tensor, Tensor, Tensor]:
    volume = torch.Size(kernel_size).numel()
    tables = coords.new_empty((volume, rows)), coords.new_empty((volume, coords.shape[0]))
    return coords.new_empty((rows, coords.shape[1])), *tables


@torch.library.register_fake("pcperc::downsample_with_map")
def _(coords, kernel_size, stride, padding, output_shape) -> tuple[Tensor, Tensor, Tensor]:
    return _fake(coords, kernel_size, torch.library.get_ctx().new_dynamic_size())


@torch.library.register_fake("pcperc::downsample_with_map_padded")
def _(coords, kernel_size, stride, padding, output_shape, capacity) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return *_fake(coords, kernel_size, capacity), coords.new_empty((), dtype=torch.bool)
