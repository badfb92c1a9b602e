# SPDX-License-Identifier: Apache-2.0
"""4 x 4 transforms, quaternions and the projection of LiDAR points into images.

Matrices are named ``a2b`` and act on column vectors: ``p_b = a2b @ p_a``. Every function takes numpy arrays, those that
a model needs on its device take torch tensors too and then return tensors.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray | Tensor

# Depths below this are raised to it before the division: points behind a camera give finite (meaningless) pixels.
MIN_DEPTH = 1e-5


def rotation_z(angle: float) -> np.ndarray:
    """Return the (4, 4) float64 rotation by ``angle`` radians counter-clockwise about +z."""
    matrix = np.eye(4)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix[:2, :2] = [[cos, -sin], [sin, cos]]
    return matrix


def to_homogeneous(points: Array) -> Array:
    """Append a column of ones: (..., 3) -> (..., 4), same type and dtype."""
    if points.shape[-1] != 3:
        raise ValueError(f"to_homogeneous: points must be (..., 3), got {tuple(points.shape)}")
    if isinstance(points, Tensor):
        return torch.cat([points, torch.ones_like(points[..., :1])], -1)
    return np.concatenate([points, np.ones_like(points[..., :1])], -1)


def rigid_matrix(translation, rotation) -> np.ndarray:
    """Build the (4, 4) float64 matrix of a pose.

    Args:
        translation: three numbers, metres.
        rotation: unit quaternion (w, x, y, z), or a (3, 3) rotation matrix.
    """
    rotation = np.asarray(rotation, np.float64)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation if rotation.shape == (3, 3) else quaternion_to_matrix(rotation)
    matrix[:3, 3] = translation
    return matrix


def inverse(matrix: Array) -> Array:
    """Invert square matrices (..., N, N); use ``invert_rigid`` for poses without scale.

    Raises:
        LinAlgError: one is singular. In an exported program it gives infinities instead: torch's check has an argument
            of text, which compiled packages cannot read.
    """
    if isinstance(matrix, Tensor):
        if torch.compiler.is_compiling():
            return torch.linalg.inv_ex(matrix).inverse
        return torch.linalg.inv(matrix.cpu()).to(matrix.device)  # on a GPU that waits, too, behind a dozen launches
    return np.linalg.inv(matrix)


def invert_rigid(matrix: Array) -> Array:
    """Invert rigid transforms (..., 4, 4): the rotation is transposed, so nothing is lost to a general inverse.

    Raises:
        ValueError: the shape is not (..., 4, 4). A scale or shear is not looked for; use ``inverse`` for those.
    """
    if tuple(matrix.shape[-2:]) != (4, 4):
        raise ValueError(f"invert_rigid: matrix must be (..., 4, 4), got {tuple(matrix.shape)}")
    inverse = matrix.clone() if isinstance(matrix, Tensor) else np.array(matrix, np.float64)
    rotation = inverse[..., :3, :3].swapaxes(-1, -2)
    translation = rotation @ inverse[..., :3, 3:]
    inverse[..., :3, :3] = rotation.clone() if isinstance(matrix, Tensor) else rotation.copy()
    inverse[..., :3, 3:] = -translation
    return inverse


def transform_points(points: Array, matrix: Array) -> Array:
    """Move points by a transform.

    Args:
        points: (..., N, C), C >= 3; x, y, z come first, further columns (intensity, time lag) stay as they are.
        matrix: (4, 4) or (..., 4, 4) with the leading dimensions of ``points``.
    Returns:
        New array of the shape and dtype of ``points``; numpy input is computed in the wider of the two dtypes.
    """
    if isinstance(points, Tensor):
        matrix = torch.as_tensor(matrix, dtype=points.dtype, device=points.device)
        moved = points[..., :3] @ matrix[..., :3, :3].mT + matrix[..., None, :3, 3]
        return torch.cat([moved, points[..., 3:]], -1)
    matrix = np.asarray(matrix)
    out = np.array(points)
    out[..., :3] = points[..., :3] @ np.swapaxes(matrix[..., :3, :3], -1, -2) + matrix[..., None, :3, 3]
    return out


def quaternion_to_matrix(quaternion) -> np.ndarray:
    """Turn quaternions (..., 4) in the order (w, x, y, z) into float64 rotation matrices (..., 3, 3).

    Raises:
        ValueError: wrong shape, or a quaternion whose length is not 1 within 1e-3 (shorter slips are normalised away).
    """
    q = np.asarray(quaternion, np.float64)
    if q.shape[-1:] != (4,):
        raise ValueError(f"quaternion_to_matrix: quaternion must be (..., 4), got {q.shape}")
    norm = np.linalg.norm(q, axis=-1, keepdims=True)
    if not np.all(np.abs(norm - 1.0) < 1e-3):
        raise ValueError(f"quaternion_to_matrix: quaternion must have length 1, got {q.tolist()}")
    w, x, y, z = np.moveaxis(q / norm, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def matrix_to_quaternion(matrix) -> np.ndarray:
    """Turn rotation matrices (..., 3, 3) or poses (..., 4, 4) into float64 quaternions (w, x, y, z) with w >= 0.

    Of the four equivalent formulas the one with the largest divisor is taken: accurate for every angle.
    Source: Shepperd, Quaternion from rotation matrix, J. Guidance and Control 1 (3), 1978.
    """
    m = np.asarray(matrix, np.float64)[..., :3, :3]
    if m.shape[-2:] != (3, 3):
        raise ValueError(f"matrix_to_quaternion: matrix must be (..., 3, 3) or (..., 4, 4), got {np.shape(matrix)}")
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    rows = [
        [1 + xx + yy + zz, a, b, c],
        [a, 1 + xx - yy - zz, d, e],
        [b, d, 1 - xx + yy - zz, f],
        [c, e, f, 1 - xx - yy + zz],
    ]
    table = np.stack([np.stack(row, -1) for row in rows], -2)  # (..., 4, 4): row i is 4 q_i q
    best = np.argmax(np.diagonal(table, axis1=-2, axis2=-1), -1)
    q = np.take_along_axis(table, best[..., None, None], -2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return np.where(q[..., :1] < 0, -q, q)


def project_points(
    points: Array,
    lidar2camera: Array,
    camera2image: Array,
    image_aug: Array | None = None,
    lidar_aug: Array | None = None,
) -> tuple[Array, Array]:
    """Project LiDAR points into every camera.

    A point p is seen at ``image_aug @ dehomogenise(camera2image @ (lidar2camera @ inv(lidar_aug) @ p)[:3])``.

    Args:
        points: (..., N, C >= 3), in the frame that ``lidar_aug`` leads to (the recorded one where it is None).
        lidar2camera: (..., V, 4, 4).
        camera2image: (..., V, 3, 3), last row (0, 0, 1).
        image_aug: (..., V, 3, 3), recorded pixel to pixel of the image as it now is, last row (0, 0, 1); None means
            unchanged.
        lidar_aug: (..., 4, 4), recorded LiDAR frame to the frame of ``points``; None means unchanged.
    Returns:
        pixels (..., V, N, 2) as (u, v), where whole numbers are pixel centres, and depth (..., V, N) in metres along
        the camera's axis. Pixels of points with depth <= 1e-5 are finite and mean nothing: mask by depth first.
    """
    if isinstance(points, Tensor):
        xp = torch
        like = dict(dtype=points.dtype, device=points.device)
        lidar2camera, camera2image = torch.as_tensor(lidar2camera, **like), torch.as_tensor(camera2image, **like)
        image_aug = None if image_aug is None else torch.as_tensor(image_aug, **like)
        lidar_aug = None if lidar_aug is None else torch.as_tensor(lidar_aug, **like)
    else:
        xp = np
    if lidar_aug is not None:
        lidar2camera = lidar2camera @ inverse(lidar_aug)[..., None, :, :]
    if image_aug is not None:
        camera2image = image_aug @ camera2image
    lidar2pixel = camera2image @ lidar2camera[..., :3, :]  # of (depth * u, depth * v, depth)
    scaled = points[..., None, :, :3] @ lidar2pixel[..., :3].swapaxes(-1, -2) + lidar2pixel[..., None, :, 3]
    depth = scaled[..., 2]
    safe = xp.where(depth > MIN_DEPTH, depth, xp.full_like(depth, MIN_DEPTH))
    pixels = scaled[..., :2] / safe[..., None]
    return pixels, depth
