# SPDX-License-Identifier: Apache-2.0
"""Points to the dense grid of voxels around each cloud, by averages, and back, trilinearly."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pcperc.ops._checks import (
    FLOAT_DTYPES,
    check_fake_devices,
    check_float_matrix,
    check_same_device,
    check_tensor,
    describe,
    positive_int,
)
from pcperc.ops._clouds import check_cloud
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


@dataclass(frozen=True, eq=False)
class CloudExtents:
    """Where clouds lie. From :func:`cloud_extents`, for grids of several resolutions."""

    centres: Tensor  # (B, 3), the mean of each cloud; NaN where a point is not finite
    radii: Tensor | None  # (B, 1), the largest distance of its points from there; None where clouds are not scaled


def cloud_extents(points: Tensor, items: Segments, *, normalize: bool = True) -> CloudExtents:
    """Find the centre of each cloud and, where ``normalize`` is set, how far its points reach from there.

    Args:
        points: (N, 3) floating point, in any unit.
        items: the B clouds, from :func:`make_segments`.
        normalize: False where grids are not to be scaled.
    Returns:
        CloudExtents in float32, or float64 for float64; 0 for a cloud without points.
    Raises:
        TypeError, ValueError: wrong shape, dtype or device.
    Not differentiable. Deterministic: yes, for every number of threads; nothing waits for the device.
    """
    points = check_cloud("cloud_extents", "points", points, items)
    centres = segment_reduce(points, items, mode="mean")
    if not normalize:
        return CloudExtents(centres, None)
    distances = torch.ops.pcperc.centre_distances(points, items.index, centres)
    return CloudExtents(centres, segment_reduce(distances, items, mode="max"))


def make_dense_grid(
    points: Tensor,
    items: Segments,
    *,
    resolution: int,
    normalize: bool = True,
    extents: CloudExtents | None = None,
) -> DenseGrid:
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
        extents: what :func:`cloud_extents` gave for the same arguments, where grids of several resolutions share it.
    Returns:
        DenseGrid. Points of a cloud that all coincide lie in the middle, u = 0.5. A cloud with a point that is not
        finite has no mean: its points are in no voxel and read 0.
    Raises:
        TypeError, ValueError: wrong shape, dtype or device; resolution no whole number > 0; 2^31 voxels or more;
            extents of another number of clouds, type or ``normalize``.
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
    if extents is None:
        extents = cloud_extents(points, items, normalize=normalize)
    else:
        _check_extents(op, extents, points, batch_size, bool(normalize))
    where = extents.centres, extents.radii
    voxel, rows, weights = torch.ops.pcperc.grid_voxels(points, items.index, *where, resolution)
    num_voxels = batch_size * resolution**3
    voxels = make_segments(voxel, num_segments=num_voxels)
    return DenseGrid(voxels, GatherPlan(rows, weights, num_voxels), resolution, batch_size)


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


def grid_of_clouds(grid: DenseGrid, clouds: slice, rows: slice) -> DenseGrid:
    """Return the grids of some clouds, whose points are ``rows`` alone, for inference: no gradient goes through it.

    Both slices have bounds. :func:`avg_voxelize` still takes the features of all points, :func:`trilinear_devoxelize`
    gives those of ``rows``.
    """
    first, last = clouds.start * grid.resolution**3, clouds.stop * grid.resolution**3
    voxels = grid.voxels._replace(starts=grid.voxels.starts[first : last + 1])
    corners = GatherPlan(grid.corners.rows[rows] - first, grid.corners.weights[rows], last - first)
    return DenseGrid(voxels, corners, grid.resolution, clouds.stop - clouds.start)


def _check_extents(op: str, extents: CloudExtents, points: Tensor, batch_size: int, normalize: bool) -> None:
    if not isinstance(extents, CloudExtents):
        raise TypeError(f"{op}: extents must be CloudExtents from cloud_extents, got {describe(extents)}")
    centres, radii = extents.centres, extents.radii
    check_same_device(op, points=points, extents=centres)
    if centres.shape != (batch_size, 3) or centres.dtype != points.dtype or (radii is not None) != normalize:
        wanted = f"{batch_size} clouds in {points.dtype} and normalize={normalize}"
        kind = "scaled" if radii is not None else "unscaled"
        raise ValueError(f"{op}: extents must be those of {wanted}, got {kind} ones, {describe(centres)}")


def _check_grid(op: str, grid: DenseGrid) -> None:
    if not isinstance(grid, DenseGrid):
        raise TypeError(f"{op}: grid must be a DenseGrid from make_dense_grid, got {describe(grid)}")


@torch.library.register_fake("pcperc::centre_distances")
def _(points, index, centres):
    check_fake_devices("centre_distances", points, index, centres)
    return points.new_empty(points.shape[0], 1)


@torch.library.register_fake("pcperc::grid_voxels")
def _(points, index, centres, radii, resolution):
    check_fake_devices("grid_voxels", points, index, centres, radii)
    corners = points.shape[0], 8
    voxel, rows = (index.new_empty(shape, dtype=torch.int32) for shape in (corners[:1], corners))
    return voxel, rows, points.new_empty(corners)
