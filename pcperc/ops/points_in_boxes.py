# SPDX-License-Identifier: Apache-2.0
"""Which box holds a point. Boxes are rows ``[x, y, z, l, w, h, yaw, ...]`` as docs/conventions.md says."""

import torch
from torch import Tensor

from pcperc.ops._checks import check_float_matrix, check_same_device
from pcperc.ops.box_iou import box_frames


def points_in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Index of the first box that contains each point.

    Args:
        points: (N, >= 3) floating point, columns 0 to 2 are x, y, z in metres; further columns are not looked at.
        boxes: (K, >= 7) floating point, on the device of points.

    Returns:
        (N,) int32, -1 where no box contains the point. Faces count as inside; the test runs in float64. A box with a
        size of zero or less or with a NaN contains nothing, and a point with a NaN is in no box.

    Raises:
        TypeError, ValueError: wrong shape, dtype or device.

    Not differentiable. Deterministic: yes, the same on CPU and CUDA.
    """
    return torch.ops.pcperc.points_in_boxes(*_arguments("points_in_boxes", points, boxes))


def points_in_boxes_mask(points: Tensor, boxes: Tensor) -> Tensor:
    """(N, K) bool: whether box k contains point n. Arguments and rules are those of :func:`points_in_boxes`."""
    return torch.ops.pcperc.points_in_boxes_mask(*_arguments("points_in_boxes_mask", points, boxes))


def _arguments(op: str, points: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    check_float_matrix(op, "points", points, columns="(N, >= 3)", least=3)
    frames = box_frames(op, "boxes", boxes)
    check_same_device(op, points=points, boxes=boxes)
    return points.detach()[:, :3].double().contiguous(), frames


@torch.library.register_fake("pcperc::points_in_boxes")
def _(points, frames):
    return points.new_empty(points.shape[0], dtype=torch.int32)


@torch.library.register_fake("pcperc::points_in_boxes_mask")
def _(points, frames):
    return points.new_empty(points.shape[0], frames.shape[0], dtype=torch.bool)
