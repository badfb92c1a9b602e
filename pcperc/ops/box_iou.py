# SPDX-License-Identifier: Apache-2.0
"""Intersection over union of upright boxes, and non-maximum suppression.

Boxes are rows ``[x, y, z, l, w, h, yaw, ...]`` as docs/conventions.md says: centre of gravity, length along the
heading, yaw counter-clockwise from +x. Everything is computed in float64, relative to one of the two boxes, whatever
the dtype given. Nothing here is differentiable.
"""

import math
from numbers import Real

import torch
from torch import Tensor

from pcperc.ops._checks import check_float_matrix, check_same_device, check_tensor, describe


def box_frames(op: str, name: str, boxes: Tensor) -> Tensor:
    """Return (K, 8) float64 [x, y, z, l, w, h, cos yaw, sin yaw] of boxes (K, >= 7), as the kernels take them."""
    check_float_matrix(op, name, boxes, columns="(K, >= 7)", least=7)
    values = boxes.detach().double()
    yaw = values[:, 6:7]
    return torch.cat([values[:, :6], yaw.cos(), yaw.sin()], dim=1)


def box_iou_bev(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Intersection over union of all pairs of boxes seen from above (rotated rectangles).

    Args:
        boxes_a: (N, >= 7) floating point.
        boxes_b: (M, >= 7) floating point, on the device of boxes_a.

    Returns:
        (N, M) in [0, 1], float64 where either input is float64, else float32. Boxes that only touch, and boxes with l
        or w of zero or less or with a NaN, have 0 with every box. z and h are not looked at.

    Raises:
        TypeError, ValueError: wrong shape, dtype or device.

    Deterministic: yes. Area of overlap: Sutherland and Hodgman, Reentrant polygon clipping, CACM 17(1), 1974.
    """
    return _iou("box_iou_bev", boxes_a, boxes_b, with_height=False)


def box_iou_3d(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Intersection over union of the volumes of all pairs of boxes.

    Arguments, result and errors are those of :func:`box_iou_bev`; boxes with h of zero or less have 0 too.
    """
    return _iou("box_iou_3d", boxes_a, boxes_b, with_height=True)


def nms_bev(boxes: Tensor, scores: Tensor, *, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression by rotated overlap from above.

    Args:
        boxes: (K, >= 7) floating point.
        scores: (K,) floating point. Equal scores rank by index; a box with a NaN score is never kept.
        iou_threshold: in [0, 1]; a box is suppressed by a better one where their IoU is greater than this.

    Returns:
        (K',) int64 indices of the boxes kept, highest score first. Boxes without area or with a NaN overlap nothing
        and stay.

    Raises:
        TypeError, ValueError: wrong shape, dtype or device, or a threshold out of range.

    Deterministic: yes, the same on CPU and CUDA. Memory on CUDA: K^2 / 8 bytes.
    """
    frames = box_frames("nms_bev", "boxes", boxes)
    threshold = _iou_threshold("nms_bev", iou_threshold)
    order, valid = _rank("nms_bev", "boxes", boxes, scores)
    keep = torch.ops.pcperc.nms_bev(frames.index_select(0, order), threshold)
    return order[keep & valid]


def nms_bev_sorted(boxes: Tensor, *, iou_threshold: float) -> Tensor:
    """Whether :func:`nms_bev` keeps each of the boxes (K, >= 7), which are sorted best first: (K,) bool.

    The host does not wait for a GPU. Threshold, errors and boxes without area or with a NaN: as there.
    """
    frames = box_frames("nms_bev_sorted", "boxes", boxes)
    return torch.ops.pcperc.nms_bev(frames, _iou_threshold("nms_bev_sorted", iou_threshold))


def circle_nms(centers: Tensor, scores: Tensor, *, min_distance: float) -> Tensor:
    """Greedy non-maximum suppression by the distance of centres.

    Args:
        centers: (K, 2) floating point, x and y in metres.
        scores: (K,) floating point. Equal scores rank by index; a centre with a NaN score is never kept.
        min_distance: metres, >= 0; a centre is suppressed by a better one that is closer than this.

    Returns:
        (K',) int64 indices of the centres kept, highest score first. Centres with a NaN are near to nothing and stay.

    Raises:
        TypeError, ValueError: wrong shape, dtype or device, or a distance that is negative or not finite.

    Source: Yin, Zhou and Kraehenbuehl, CenterPoint, CVPR 2021 (there the squared distance is compared with the radius).
    Deterministic: yes, the same on CPU and CUDA. Memory on CUDA: K^2 / 8 bytes.
    """
    points = _circle_centers("circle_nms", centers)
    distance = _min_distance("circle_nms", min_distance)
    order, valid = _rank("circle_nms", "centers", centers, scores)
    keep = torch.ops.pcperc.circle_nms(points.index_select(0, order), distance)
    return order[keep & valid]


def circle_nms_sorted(centers: Tensor, *, min_distance: float) -> Tensor:
    """Whether :func:`circle_nms` keeps each of the centres (K, 2), which are sorted best first: (K,) bool.

    The host does not wait for a GPU. Distance and errors: as there. Centres with a NaN are near to nothing and stay.
    """
    points = _circle_centers("circle_nms_sorted", centers)
    return torch.ops.pcperc.circle_nms(points, _min_distance("circle_nms_sorted", min_distance))


def _circle_centers(op: str, centers: Tensor) -> Tensor:
    check_float_matrix(op, "centers", centers, columns="(K, 2)", least=2, exact=True)
    return centers.detach().double().contiguous()


def _iou_threshold(op: str, value: float) -> float:
    _check_number(op, "iou_threshold", value)
    if not 0 <= value <= 1:
        raise ValueError(f"{op}: iou_threshold must be in [0, 1], got {value}")
    return float(value)


def _min_distance(op: str, value: float) -> float:
    _check_number(op, "min_distance", value)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{op}: min_distance must be finite and >= 0, got {value}")
    return float(value)


def _check_number(op: str, name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{op}: {name} must be a number, got {describe(value)}")


def _iou(op: str, boxes_a: Tensor, boxes_b: Tensor, *, with_height: bool) -> Tensor:
    frames_a = box_frames(op, "boxes_a", boxes_a)
    frames_b = box_frames(op, "boxes_b", boxes_b)
    check_same_device(op, boxes_a=boxes_a, boxes_b=boxes_b)
    dtype = torch.float64 if torch.float64 in (boxes_a.dtype, boxes_b.dtype) else torch.float32
    return torch.ops.pcperc.box_iou(frames_a, frames_b, with_height).to(dtype)


def _rank(op: str, name: str, rows: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Indices by falling score, NaN last; and, in that order, whether the score is a number."""
    check_tensor(op, "scores", scores)
    if scores.shape != rows.shape[:1] or not scores.is_floating_point():
        raise ValueError(f"{op}: scores must be ({rows.shape[0]},) floating point, got {describe(scores)}")
    check_same_device(op, **{name: rows, "scores": scores})
    scores = scores.detach()
    order = torch.argsort(
        scores.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf), descending=True, stable=True
    )
    return order, ~scores.isnan().index_select(0, order)


@torch.library.register_fake("pcperc::box_iou")
def _(frames_a, frames_b, with_height):
    return frames_a.new_empty(frames_a.shape[0], frames_b.shape[0])


@torch.library.register_fake("pcperc::nms_bev")
def _(frames, iou_threshold):
    return frames.new_empty(frames.shape[0], dtype=torch.bool)


@torch.library.register_fake("pcperc::circle_nms")
def _(centers, min_distance):
    return centers.new_empty(centers.shape[0], dtype=torch.bool)
