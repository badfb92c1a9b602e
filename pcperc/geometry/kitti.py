# SPDX-License-Identifier: Apache-2.0
"""KITTI's calibration and boxes: from its label files' form to the boxes of docs/conventions.md and back.

A label gives an object in the rectified frame of camera 0 (x right, y down, z forward): the middle of its lower face,
height, width and length, and ``rotation_y`` about y, 0 where it heads along x. Between that and a LiDAR's frame
stands the *upright camera frame*, the same axes by other names: x forward (z), y left (-x), z up (-y). Boxes stand
upright there, so that overlaps are those of the official evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pcperc.geometry.boxes import BOX_EDGES, box_corners, transform_boxes, wrap_angle

# Upright camera frame (x forward, y left, z up) to the rectified frame (x right, y down, z forward).
UPRIGHT2RECT = np.array([[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])

NEAR = 0.1  # metres before the camera: what is closer is not on the image


@dataclass(frozen=True)
class KITTICalibration:
    """Calibration of one frame.

    Attributes:
        projection: (3, 4) float64, ``P2``: rectified frame to the pixels of the left colour camera.
        lidar2rect: (4, 4) float64, ``R0_rect @ Tr_velo_to_cam``; recorded with rotations to some 7 digits.
    """

    projection: np.ndarray
    lidar2rect: np.ndarray

    @property
    def lidar2upright(self) -> np.ndarray:
        """(4, 4): LiDAR frame to the upright camera frame."""
        return UPRIGHT2RECT.T @ self.lidar2rect

    @property
    def camera2image(self) -> np.ndarray:
        """(3, 3) intrinsics of the left colour camera."""
        return self.projection[:, :3].copy()

    @property
    def lidar2camera(self) -> np.ndarray:
        """(4, 4): LiDAR frame to that of the left colour camera, which stands a few centimetres beside camera 0."""
        offset = np.eye(4)
        offset[:3, 3] = np.linalg.solve(self.projection[:, :3], self.projection[:, 3])
        return offset @ self.lidar2rect

    def project(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Project points (N, 3) of the LiDAR frame: pixels (N, 2) and depth (N,) in metres before the camera.

        Pixels of points that are not before the camera mean nothing.
        """
        return self.project_upright(xyz @ self.lidar2upright[:3, :3].T + self.lidar2upright[:3, 3])

    def project_upright(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Project points (N, 3) of the upright camera frame, as `project` does."""
        rect = xyz @ UPRIGHT2RECT[:3, :3].T
        image = rect @ self.projection[:, :3].T + self.projection[:, 3]
        depth = image[:, 2]
        return image[:, :2] / np.where(np.abs(depth) > 1e-9, depth, 1e-9)[:, None], depth


def boxes_from_kitti(sizes: np.ndarray, locations: np.ndarray, rotations_y: np.ndarray) -> np.ndarray:
    """Return boxes (K, 7) float64 of the upright camera frame.

    Args:
        sizes: (K, 3) height, width, length. locations: (K, 3) middle of the lower face, rectified frame.
        rotations_y: (K,) radians.
    """
    count = len(sizes)
    sizes, locations = np.reshape(sizes, (count, 3)), np.reshape(locations, (count, 3))
    boxes = np.empty((count, 7))
    boxes[:, :3] = locations[:, [2, 0, 1]] * (1.0, -1.0, -1.0)
    boxes[:, 2] += sizes[:, 0] / 2
    boxes[:, 3:6] = sizes[:, [2, 1, 0]]
    boxes[:, 6] = wrap_angle(-np.reshape(rotations_y, count) - np.pi / 2)
    return boxes


def boxes_to_kitti(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sizes (K, 3) height, width, length, locations (K, 3) and rotations_y (K,) of boxes (K, >= 7) of the
    upright camera frame; the inverse of `boxes_from_kitti`."""
    boxes = np.asarray(boxes, np.float64)
    locations = boxes[:, [1, 2, 0]] * (-1.0, -1.0, 1.0)
    locations[:, 1] += boxes[:, 5] / 2
    return boxes[:, [5, 4, 3]], locations, wrap_angle(-boxes[:, 6] - np.pi / 2)


def upright_to_lidar(boxes: np.ndarray, calibration: KITTICalibration) -> np.ndarray:
    """Move boxes (K, 7 or 9) of the upright camera frame, where they stand upright, into the LiDAR frame."""
    return transform_boxes(boxes, np.linalg.inv(calibration.lidar2upright), upright="source")


def lidar_to_upright(boxes: np.ndarray, calibration: KITTICalibration) -> np.ndarray:
    """Move boxes (K, 7 or 9) of the LiDAR frame into the upright camera frame; undoes `upright_to_lidar`."""
    return transform_boxes(np.asarray(boxes, np.float64), calibration.lidar2upright, upright="target")


def alpha_of(boxes: np.ndarray) -> np.ndarray:
    """Return the observation angle ``alpha`` (K,) of boxes (K, >= 7) of the upright camera frame: ``rotation_y`` less
    the direction in which the object is seen."""
    _, locations, rotations_y = boxes_to_kitti(boxes)
    return wrap_angle(rotations_y - np.arctan2(locations[:, 0], locations[:, 2]))


def boxes_on_image(boxes: np.ndarray, calibration: KITTICalibration) -> np.ndarray:
    """Return the rectangles (K, 4) left, top, right, bottom in pixels that boxes cover, also beside the image.

    Args:
        boxes: (K, >= 7), upright camera frame. Of a box that reaches behind the camera the part before it counts.
        calibration: of the frame.
    Returns:
        float64; NaN for a box that is behind the camera altogether.
    """
    corners = box_corners(np.asarray(boxes, np.float64)[:, :7])
    edges = np.array(BOX_EDGES)
    start, end = corners[:, edges[:, 0]], corners[:, edges[:, 1]]  # (K, 12, 3); depth is along x
    inside_start, inside_end = start[..., :1] >= NEAR, end[..., :1] >= NEAR
    along = end[..., :1] - start[..., :1]
    part = np.clip((NEAR - start[..., :1]) / np.where(along == 0, 1.0, along), 0.0, 1.0)
    cut = start + part * (end - start)
    ends = np.concatenate([np.where(inside_start, start, cut), np.where(inside_end, end, cut)], 1)  # (K, 24, 3)
    before = np.tile(inside_start | inside_end, (1, 2, 1))[..., 0]
    pixels, _ = calibration.project_upright(ends.reshape(-1, 3))
    pixels = np.where(before[..., None], pixels.reshape(*before.shape, 2), np.nan)
    found = before.any(1)
    out = np.full((len(corners), 4), np.nan)
    out[found] = np.concatenate([np.nanmin(pixels[found], 1), np.nanmax(pixels[found], 1)], 1)
    return out
