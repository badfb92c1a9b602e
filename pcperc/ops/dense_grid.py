# SPDX-License-Identifier: Apache-2.0
"""Points to the dense grid of voxels around each cloud, by averages, and back, trilinearly."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pcperc.ops._checks import FLOAT_DTYPES, check_float_matrix, check_same_device, check_tensor, describe, positive_int
from pcperc.ops._clouds import check_cloud
from pcperc.ops.interpolate import corner_weights
from pcperc.ops.segment_mean import segment_mean
from pcperc.ops.segment_reduce import Segments, make_segments, segment_reduce
from pcperc.ops.weighted_gather import GatherPlan, weighted_gather


@dataclass(frozen=True, eq=False)
class DenseGrid:
    """Where the points of B clouds lie in grids of R x R x R voxels, one a cloud. From :func:`make_dense_grid`."""

    voxels: Segments  # the points of each of the B * R^3 voxels, numbered ((b * R + x) * R + y) * R + z
    corners: GatherPlan  # the 8 voxels that each point reads, and their weights
    resolution: int  # R
    batch_size: int  # B


def make_dense_grid(points: Tensor, items: Segments, *, resolution: int, normalize: bool = True) -> DenseGrid:
    """Lay a grid around each cloud and find the voxels of its points.

    With the mean m of a cloud, ``u = (p - m) / (2 max ||p - m||) + 0.5`` where ``normalize`` is set, else ``u = (p - m
    + 1) / 2``; the place of a point is then ``min(max(u R, 0), R - 1)``, its voxel the nearest whole number (of two the
    even one), and it reads the 8 voxels around its place.

    Args:
        points: (N, 3) floating point, x, y, z in any unit.
        items: the B clouds, from ``make_segments(batch_index, num_segments=B)``.
        resolution: R >= 1, voxels along each axis.
        normalize: whether a cloud is scaled to fill its grid. Without it the cube [m - 1, m + 1] is the grid, and
            points outside are moved to its faces.
    Returns:
        DenseGrid. Points of a cloud that all coincide lie in the middle, u = 0.5. A cloud with a point that is not
        finite has no mean: its points are in no voxel and read 0.
    Raises:
        TypeError, ValueError: wrong shape, dtype or device; resolution no whole number > 0; 2^31 voxels or more.
    Source: Liu, Tang, Lin and Han, "Point-Voxel CNN for Efficient 3D Deep Learning", NeurIPS 2019, section 4.1, and the
        code published with it for what the paper leaves open.
    Not differentiable in points. Deterministic: yes, for every number of threads; nothing waits for the device.
    """
    op = "make_dense_grid"
    points = check_cloud(op, "points", points, items)
    resolution = positive_int(op, "resolution", resolution)
    batch_size = items.starts.shape[0] - 1
    if batch_size * resolution**3 >= 2**31:
        raise ValueError(f"{op}: clouds * resolution^3 must be below 2^31, got {batch_size} * {resolution}^3")
    place = _places(points, items, resolution, normalize)
    known = place.isfinite().all(1) & (items.index >= 0) & (items.index < batch_size)
    place = torch.where(known[:, None], place, 0)
    voxel = torch.where(known, _number(items.index, place.round().long(), resolution), -1)
    voxels = make_segments(voxel, num_segments=batch_size * resolution**3)
    return DenseGrid(voxels, _corner_plan(items.index, place, known, resolution, batch_size), resolution, batch_size)


def avg_voxelize(feats: Tensor, grid: DenseGrid) -> Tensor:
    """Average the features of the points of each voxel.

    Args:
        feats: (N, C) float64, float32, float16 or bfloat16. Differentiable.
        grid: from :func:`make_dense_grid`, on the device of feats.
    Returns:
        (B, C, R, R, R) in the dtype of feats, 0 in a voxel without points; axes x, y, z, channels last in memory. Sums
        are float32 (float64 for float64).
    Raises:
        TypeError, ValueError: wrong type, shape or device.
    Source: Liu et al., NeurIPS 2019, equation 2.
    Deterministic: yes, forward and backward. Differentiable any number of times.
    """
    op = "avg_voxelize"
    _check_grid(op, grid)
    check_float_matrix(op, "feats", feats, columns="(N, C)", least=0)
    if feats.shape[0] != grid.voxels.index.shape[0]:
        raise ValueError(f"{op}: feats must have the grid's {grid.voxels.index.shape[0]} rows, got {describe(feats)}")
    check_same_device(op, feats=feats, grid=grid.voxels.index)
    sides = (grid.resolution,) * 3
    means = segment_mean(feats, grid.voxels)
    return means.reshape(grid.batch_size, *sides, feats.shape[1]).permute(0, 4, 1, 2, 3)


def trilinear_devoxelize(volume: Tensor, grid: DenseGrid) -> Tensor:
    """Read a grid at the points, linearly along each axis; the value of a voxel sits at its index.

    Args:
        volume: (B, C, R, R, R) float64, float32, float16 or bfloat16; axes x, y, z. Differentiable.
        grid: from :func:`make_dense_grid`, on the device of volume.
    Returns:
        (N, C) in the dtype of volume.
    Raises:
        TypeError, ValueError: wrong type, shape or device.
    Source: Liu et al., NeurIPS 2019, section 4.1 (devoxelization).
    Deterministic: yes, forward and backward. Differentiable any number of times.
    """
    op = "trilinear_devoxelize"
    _check_grid(op, grid)
    check_tensor(op, "volume", volume)
    batch_size, side = grid.batch_size, grid.resolution
    if volume.dim() != 5 or (volume.shape[0], *volume.shape[2:]) != (batch_size, side, side, side):
        expected = f"({batch_size}, C, {side}, {side}, {side})"
        raise ValueError(f"{op}: volume must be {expected} like the grid, got {describe(volume)}")
    if volume.dtype not in FLOAT_DTYPES:
        raise TypeError(f"{op}: volume must have a floating point dtype, got {describe(volume)}")
    check_same_device(op, volume=volume, grid=grid.voxels.index)
    rows = volume.permute(0, 2, 3, 4, 1).reshape(batch_size * side**3, volume.shape[1])
    return weighted_gather(rows, grid.corners)


def _check_grid(op: str, grid: DenseGrid) -> None:
    if not isinstance(grid, DenseGrid):
        raise TypeError(f"{op}: grid must be a DenseGrid from make_dense_grid, got {describe(grid)}")


def _places(points: Tensor, items: Segments, resolution: int, normalize: bool) -> Tensor:
    """(N, 3) places of the points in [0, R - 1]; NaN where the cloud has no mean."""
    item = items.index.clamp(0, max(items.starts.shape[0] - 2, 0))
    if items.starts.shape[0] < 2:
        return torch.full_like(points, torch.nan)
    centred = points - segment_reduce(points, items, mode="mean").index_select(0, item)
    if normalize:
        length = centred.square().sum(1, keepdim=True).sqrt()
        largest = segment_reduce(length, items, mode="max").index_select(0, item)
        unit = centred / torch.where(largest > 0, 2 * largest, torch.where(largest == 0, 1, torch.nan)) + 0.5
    else:
        unit = (centred + 1) / 2
    return (unit * resolution).clamp(0, resolution - 1)


def _number(item: Tensor, voxel: Tensor, resolution: int) -> Tensor:
    """Number of voxel [x, y, z] of a cloud among those of all clouds, int64."""
    x, y, z = voxel.unbind(-1)
    return ((item.long() * resolution + x) * resolution + y) * resolution + z


def _corner_plan(item: Tensor, place: Tensor, known: Tensor, resolution: int, batch_size: int) -> GatherPlan:
    low = place.floor()
    corner, axis = torch.arange(8, device=place.device), torch.arange(3, device=place.device)
    steps = corner[:, None] >> (2 - axis) & 1  # made on the device: nothing waits for a copy
    voxels = low.long()[:, None] + steps
    inside = known[:, None] & (voxels < resolution).all(2)  # behind the last voxel the weight is 0
    rows = torch.where(inside, _number(item[:, None], voxels, resolution), -1)
    return GatherPlan(rows.int(), corner_weights(place - low), batch_size * resolution**3)
