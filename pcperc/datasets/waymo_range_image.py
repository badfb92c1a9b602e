# SPDX-License-Identifier: Apache-2.0
"""Range images of Waymo's LiDARs, and the points that they hold."""

from __future__ import annotations

import numpy as np

from pcperc.geometry import invert_rigid, transform_points


def range_image(values: np.ndarray | None, shape: np.ndarray | None, channels: int, *, where: str) -> np.ndarray:
    """Return a range image (H, W, channels) of its flat values, which may be read-only."""
    if values is None or shape is None or len(shape) != 3 or shape[2] != channels or np.prod(shape) != len(values):
        got = "none" if values is None or shape is None else f"{len(values)} values of shape {tuple(shape)}"
        raise ValueError(f"Waymo: {where}: a range image must be (H, W, {channels}), got {got}")
    return np.asarray(values, np.float32).reshape(shape)


def range_image_points(
    image: np.ndarray,
    *,
    lidar2vehicle: np.ndarray,
    inclinations: np.ndarray,
    pixel_poses: np.ndarray | None = None,
    vehicle2world: np.ndarray | None = None,
) -> np.ndarray:
    """Turn a range image into points of the vehicle's frame.

    Args:
        image: (H, W, 4): range (m, not above 0 for none), intensity, elongation, no-label zone. Row 0 is the highest
            beam; columns go clockwise from behind the LiDAR.
        lidar2vehicle: (4, 4).
        inclinations: (H,) radians, lowest beam first; or (2,) for the lowest and highest edge of H even beams.
        pixel_poses: (H, W, 6): roll, pitch, yaw, x, y, z of the vehicle in the world as each pixel was taken.
        vehicle2world: (4, 4) at the frame's time; with ``pixel_poses``.
    Returns:
        (N, 5) float32 ``[x, y, z, intensity, 0]``, row by row.
    Raises:
        ValueError: as many inclinations as rows are expected, and points that are finite.
    """
    height, width = image.shape[:2]
    if len(inclinations) == 2:
        low, high = inclinations
        inclinations = low + (np.arange(height) + 0.5) / height * (high - low)
    if len(inclinations) != height:
        raise ValueError(f"range_image_points: inclinations must be {height}, got {len(inclinations)}")
    row, column = np.nonzero(image[..., 0] > 0)
    distance = image[row, column, 0].astype(np.float64)
    elevation = np.asarray(inclinations, np.float64)[::-1][row]
    # The image's middle column looks along the vehicle's +x, so the LiDAR's own heading is taken off.
    heading = np.arctan2(lidar2vehicle[1, 0], lidar2vehicle[0, 0])
    azimuth = np.pi * (1 - 2 * (column + 0.5) / width) - heading
    flat = np.cos(elevation) * distance
    points = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation) * distance], -1)
    points = transform_points(points, lidar2vehicle)
    if pixel_poses is not None:
        pose = pixel_poses[row, column].astype(np.float64)
        world = np.einsum("nij,nj->ni", _rotations(pose[:, :3]), points) + pose[:, 3:]
        points = transform_points(world, invert_rigid(vehicle2world))
    with np.errstate(over="ignore"):  # it is told below
        points = np.column_stack([points, image[row, column, 1], np.zeros(len(points))]).astype(np.float32)
    if not np.isfinite(points).all():
        raise ValueError("range_image_points: ranges, intensities, inclinations and poses must be finite")
    return points


def _rotations(angles: np.ndarray) -> np.ndarray:
    """Return (N, 3, 3) rotations: roll about x first, then pitch about y, then yaw about z."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(angles).T, np.sin(angles).T
    rows = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)
