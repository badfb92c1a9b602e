# SPDX-License-Identifier: Apache-2.0
"""Boxes ``[x, y, z, l, w, h, yaw, vx, vy]``: corners, moves between frames, and the form of the nuScenes tables.

The position is the centre of gravity, ``l`` runs along the heading, ``yaw`` is counter-clockwise from +x of the frame
the box is in, the velocity is in the same frame and may be NaN (unknown). Rows of 7 numbers carry no velocity.
This is the only place of the project that does any of this. numpy arrays and torch tensors are taken alike.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pcperc.geometry.matrices import Array, quaternion_to_matrix

# Signs of (forward, left, up): front-left, rear-left, rear-right, front-right below, then the same above.
CORNER_SIGNS = (
    (1, 1, -1), (-1, 1, -1), (-1, -1, -1), (1, -1, -1),
    (1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, 1),
)  # fmt: skip
BOX_EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
FRONT_FACE = (0, 3, 7, 4)


def wrap_angle(angle):
    """Bring angles in radians into [-pi, pi). Numbers, arrays and tensors; NaN stays NaN."""
    wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
    # Rounding in the addition can land exactly on +pi; -pi is the same direction and keeps the interval half-open.
    if isinstance(wrapped, Tensor):
        return torch.where(wrapped >= np.pi, wrapped - 2 * np.pi, wrapped)
    return np.where(wrapped >= np.pi, wrapped - 2 * np.pi, wrapped)[()]


def _check(op: str, boxes: Array) -> None:
    """Raise unless ``boxes`` is (K, 7) or (K, 9) of a floating dtype."""
    if not isinstance(boxes, (np.ndarray, Tensor)):
        raise TypeError(f"{op}: boxes must be a numpy array or a torch tensor, got {type(boxes).__name__}")
    floating = boxes.is_floating_point() if isinstance(boxes, Tensor) else np.issubdtype(boxes.dtype, np.floating)
    if boxes.ndim != 2 or boxes.shape[1] not in (7, 9) or not floating:
        raise ValueError(f"{op}: boxes must be (K, 7) or (K, 9) floating, got {tuple(boxes.shape)} {boxes.dtype}")


def box_corners(boxes: Array) -> Array:
    """Return the corners (K, 8, 3) of boxes (K, 7 or 9), in the type and dtype of ``boxes``.

    Order: front-left, rear-left, rear-right, front-right of the lower face, then of the upper face; "front" is where
    the box heads. ``BOX_EDGES`` and ``FRONT_FACE`` index into it. Differentiable. K = 0 gives (0, 8, 3).
    """
    _check("box_corners", boxes)
    if isinstance(boxes, Tensor):
        xp, signs = torch, torch.tensor(CORNER_SIGNS, dtype=boxes.dtype, device=boxes.device)
    else:
        xp, signs = np, np.array(CORNER_SIGNS, dtype=boxes.dtype)
    offsets = signs[None] * boxes[:, None, 3:6] / 2
    cos, sin = xp.cos(boxes[:, None, 6]), xp.sin(boxes[:, None, 6])
    forward, left, up = offsets[..., 0], offsets[..., 1], offsets[..., 2]
    rotated = xp.stack((cos * forward - sin * left, sin * forward + cos * left, up), -1)
    return boxes[:, None, :3] + rotated


def transform_boxes(boxes: Array, matrix: Array, *, upright: str = "source") -> Array:
    """Move boxes into another frame: position, size, yaw and velocity.

    Where the matrix tilts the z axis a box cannot stand upright in both frames. ``upright`` says in which it does:
    "source" (heading and velocity have no z component before the move) or "target" (none after it). Annotations
    stand upright in the world: world -> LiDAR is "source", LiDAR -> world is "target", and the two undo each other
    exactly.

    Args:
        boxes: (K, 7 or 9).
        matrix: (4, 4), rotation and translation with an optional uniform scale and reflection. A scale s multiplies
            position, size and velocity; a reflection turns the heading as a mirror does.
        upright: "source" or "target".
    Returns:
        New boxes, same type, shape and dtype; yaw in [-pi, pi). Computed in the wider of both dtypes.
    Raises:
        ValueError: wrong shapes, a matrix that shears or scales unevenly, or another ``upright``.
    """
    _check("transform_boxes", boxes)
    if upright not in ("source", "target"):
        raise ValueError(f"transform_boxes: upright must be 'source' or 'target', got {upright!r}")
    if isinstance(boxes, Tensor):
        xp = torch
        wide = torch.promote_types(boxes.dtype, matrix.dtype if isinstance(matrix, Tensor) else torch.float64)
        values, matrix = boxes.to(wide), torch.as_tensor(matrix, dtype=wide)
    else:
        xp, matrix = np, np.asarray(matrix, np.float64)
        values = boxes.astype(np.float64)
    scale = _uniform_scale(matrix)  # looks at it on the CPU: let it be there, for boxes on a GPU
    matrix = matrix.to(boxes.device) if isinstance(boxes, Tensor) else matrix
    linear = matrix[:3, :3]

    def move_horizontal(vectors: Array) -> Array:
        """Map (K, 2) horizontal vectors, horizontal in the frame that ``upright`` names."""
        moved = vectors @ linear[:2, :2].swapaxes(0, 1)
        if upright == "target":  # lift z so that the z component vanishes after the move
            lift = -(vectors @ linear[2, :2]) / linear[2, 2]
            moved = moved + lift[:, None] * linear[:2, 2]
        return moved

    heading = move_horizontal(xp.stack((xp.cos(values[:, 6]), xp.sin(values[:, 6])), -1))
    yaw = wrap_angle(xp.arctan2(heading[:, 1], heading[:, 0]))
    parts = [values[:, :3] @ linear.swapaxes(0, 1) + matrix[:3, 3], values[:, 3:6] * scale, yaw[:, None]]
    if boxes.shape[1] == 9:
        parts.append(move_horizontal(values[:, 7:9]))
    out = xp.concatenate(parts, -1)
    return out.to(boxes.dtype) if isinstance(boxes, Tensor) else out.astype(boxes.dtype)


def _uniform_scale(matrix: Array) -> float:
    """Return the scale of a (4, 4) similarity, or raise."""
    if tuple(matrix.shape) != (4, 4):
        raise ValueError(f"transform_boxes: matrix must be (4, 4), got {tuple(matrix.shape)}")
    values = matrix.detach().cpu().double().numpy() if isinstance(matrix, Tensor) else matrix
    gram = values[:3, :3].T @ values[:3, :3]
    square = np.trace(gram) / 3
    # 1e-4 lets float32 matrices of recorded calibrations pass; a shear of 0.01 % moves a box corner by < 1 mm.
    if not square > 0 or np.abs(gram / square - np.eye(3)).max() > 1e-4 or abs(values[2, 2]) < 0.1 * square**0.5:
        raise ValueError(
            "transform_boxes: matrix must be a rotation that keeps z within 84 degrees of z, times a uniform scale, "
            f"got {values.tolist()}"
        )
    return float(square**0.5)


def boxes_to_nuscenes(boxes: np.ndarray, lidar2global: np.ndarray) -> dict[str, np.ndarray]:
    """Convert boxes (K, 9) of the LiDAR frame into the columns of nuScenes annotations and results.

    Returns:
        dict of float64 arrays: translation (K, 3) in the world, size (K, 3) as width, length, height,
        rotation (K, 4) quaternion (w, x, y, z) about z, velocity (K, 2) in the world (NaN where unknown).
    """
    world = transform_boxes(np.asarray(boxes, np.float64), lidar2global, upright="target")
    half = world[:, 6] / 2
    zero = np.zeros_like(half)
    return {
        "translation": world[:, :3],
        "size": world[:, [4, 3, 5]],
        "rotation": np.stack((np.cos(half), zero, zero, np.sin(half)), -1),
        "velocity": world[:, 7:9],
    }


def boxes_from_nuscenes(translation, size, rotation, velocity, global2lidar: np.ndarray) -> np.ndarray:
    """Convert the columns of K nuScenes annotations into boxes (K, 9) float64 of the LiDAR frame.

    Args:
        translation: (K, 3) metres in the world.
        size: (K, 3) width, length, height.
        rotation: (K, 4) quaternion (w, x, y, z).
        velocity: (K, 2) in the world, NaN where unknown.
        global2lidar: (4, 4).
    """
    count = len(translation)
    rotation = quaternion_to_matrix(np.asarray(rotation, np.float64).reshape(count, 4))
    world = np.empty((count, 9))
    world[:, :3] = np.reshape(translation, (count, 3))
    world[:, 3:6] = np.reshape(size, (count, 3))[:, [1, 0, 2]]
    world[:, 6] = np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
    world[:, 7:9] = np.reshape(velocity, (count, 2))
    return transform_boxes(world, global2lidar, upright="source")
