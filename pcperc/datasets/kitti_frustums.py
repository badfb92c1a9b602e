# SPDX-License-Identifier: Apache-2.0
"""Frustums: the points of a KITTI frame that a camera sees inside a 2D box, turned so that the box lies straight ahead.

Source: Qi et al., "Frustum PointNets for 3D Object Detection from RGB-D Data", CVPR 2018, section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pcperc.datasets.kitti_files import CLASSES, KITTIObjects, png_size, read_detections_2d
from pcperc.datasets.kitti_object import KITTIFrames
from pcperc.geometry import rotation_z, transform_boxes
from pcperc.geometry.kitti import KITTICalibration
from pcperc.ops import points_in_boxes_mask
from pcperc.registry import DATASETS

NEAREST = 2.0  # metres before the LiDAR: what is closer is the recording car, or behind the camera


@DATASETS.register_module()
class KITTIFrustums(KITTIFrames):
    """One sample for each 2D box of each frame, as docs/conventions.md lays samples out.

    The *frustum frame* is the upright camera frame (x forward, y left, z up, camera 0 in its origin) turned about z by
    ``frustum_angle``, so that the ray through the middle of the 2D box lies over +x. ``frustum2lidar`` leads back. A
    frustum that holds no point is a sample of N = 0 like every other.

    Args:
        root: folder of the data set, as of `KITTIObject`.
        split: as of `KITTIObject`.
        detections: None takes the 2D boxes of the labels; else a file or folder of 2D detections, as of
            `read_detections_2d`. Samples of detections have neither ``box`` nor ``point_labels``.
        classes: names of `CLASSES` to keep, in the order of ``class_index``.
        min_height: 2D boxes lower than this, in pixels, are left out.
        box_shift: in [0, 1), for training: each time that a sample is taken, the middle of its 2D box moves along both
            axes by up to this part of its size, and the size changes by up to this part; a detector's boxes are no
            better. Published is 0.1. `read_sample` moves nothing.
        transforms: callables applied in order to each sample; one that returns None drops the sample.
        test_mode: a sample that a transform drops is an error instead of being replaced by another one.
    Attributes:
        tokens: "<frame>/<row of the 2D box in its file>" of each sample.
    Raises:
        FileNotFoundError: a folder, list or the detections are missing; or labels, where detections is None.
        ValueError: an unknown class, a malformed file, no 2D box at all, or a box_shift out of range.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        split: str,
        detections: str | Path | None = None,
        classes: Sequence[str] = CLASSES,
        min_height: float = 0.0,
        box_shift: float = 0.0,
        transforms: Sequence[Callable[[dict], dict | None]] = (),
        test_mode: bool = False,
    ) -> None:
        super().__init__(root=root, split=split, classes=classes, transforms=transforms, test_mode=test_mode)
        if not 0 <= box_shift < 1:
            raise ValueError(f"KITTIFrustums: box_shift must be in [0, 1), got {box_shift}")
        self.from_labels, self.box_shift = detections is None, box_shift
        found = None if detections is None else read_detections_2d(detections)
        self._objects: dict[str, KITTIObjects] = {}
        self._frustums: list[tuple[str, int]] = []
        for frame in self.frames:
            objects = self.read_objects(frame) if found is None else found.get(frame)
            if objects is None:
                if found is None:
                    raise FileNotFoundError(f"KITTIFrustums: {self.folder / 'label_2'} is missing; give detections")
                continue  # the detector saw nothing there
            high = objects.boxes_2d[:, 3] - objects.boxes_2d[:, 1] >= min_height
            kept = np.flatnonzero(np.isin(objects.types, self.classes) & high)
            self._objects[frame] = objects
            self._frustums += [(frame, int(row)) for row in kept]
        if not self._frustums:
            raise ValueError(f"KITTIFrustums: split {split} of {root} must have 2D boxes of {self.classes}, has none")
        self.tokens = [f"{frame}/{row}" for frame, row in self._frustums]

    def __len__(self) -> int:
        return len(self._frustums)

    def read_sample(self, index: int) -> dict:
        """Return a sample without transforms.

        Raises:
            IndexError: no such sample.
            FileNotFoundError, ValueError: a file is missing, truncated or holds something else; the message names it.
        """
        return self._cut(self.check_index(index), lambda box_2d: box_2d)

    def draw_sample(self, index: int, rng: np.random.Generator) -> dict:
        """Return a sample without transforms, cut out by a box that ``box_shift`` moves."""
        return self._cut(self.check_index(index), partial(moved_box, shift=self.box_shift, rng=rng))

    def _cut(self, index: int, move: Callable[[np.ndarray], np.ndarray]) -> dict:
        frame, row = self._frustums[index]
        objects, calibration = self._objects[frame].take(np.array([row])), self.read_calibration(frame)
        box_2d = move(objects.boxes_2d[0])
        image_size = png_size(self.image_path(frame))
        scan = self.read_scan(frame)
        inside = in_frustum(scan[:, :3], box_2d, calibration, image_size=image_size)
        angle = frustum_angle(box_2d, calibration)
        lidar2frustum = rotation_z(-angle) @ calibration.lidar2upright
        points = scan[inside]
        points[:, :3] = points[:, :3] @ lidar2frustum[:3, :3].T + lidar2frustum[:3, 3]
        sample = {
            "sample_token": self.tokens[index],
            "frame": frame,
            "scene_name": self.split,
            "sample_index": index,
            "num_recorded_points": len(points),
            "points": points,
            "class_index": self.classes.index(objects.types[0]),
            "frustum_angle": angle,
            "frustum2lidar": np.linalg.inv(lidar2frustum),
            "box_2d": box_2d,
            "score_2d": float(np.nan_to_num(objects.scores[0], nan=1.0)),  # labels have none
            "calibration": calibration,
            "image_size": image_size,
        }
        if self.from_labels:
            box = transform_boxes(objects.boxes(), rotation_z(-angle))
            mask = points_in_boxes_mask(torch.from_numpy(points), torch.from_numpy(box))[:, 0]
            sample["box"], sample["point_labels"] = box[0].astype(np.float32), mask.numpy().astype(np.int64)
        return sample


def moved_box(box_2d: np.ndarray, *, shift: float, rng: np.random.Generator) -> np.ndarray:
    """Move and resize a 2D box (4,) at random, by up to ``shift`` of its size along each axis; 0 draws nothing."""
    if shift == 0:
        return box_2d
    size = box_2d[2:] - box_2d[:2]
    middle = (box_2d[:2] + box_2d[2:]) / 2 + size * rng.uniform(-shift, shift, 2)
    half = size * (1 + rng.uniform(-shift, shift, 2)) / 2
    return np.concatenate([middle - half, middle + half]).astype(box_2d.dtype)


def frustum_angle(box_2d: np.ndarray, calibration: KITTICalibration) -> float:
    """Return the direction, about z of the upright camera frame, in which the middle of a 2D box is seen; radians.

    The ray starts in the left colour camera; camera 0, about which frustums turn, stands 6 cm beside it, so the angle
    is that of its direction.
    """
    u, v = (box_2d[0] + box_2d[2]) / 2, (box_2d[1] + box_2d[3]) / 2
    right, _, forward = np.linalg.solve(calibration.camera2image, np.array([u, v, 1.0]))
    return math.atan2(-right, forward)


def in_frustum(
    xyz: np.ndarray, box_2d: np.ndarray, calibration: KITTICalibration, *, image_size: tuple[int, int]
) -> np.ndarray:
    """Return (N,) bool: which points of the LiDAR frame the camera sees inside a 2D box.

    Args:
        xyz: (N, 3), metres. box_2d: (4,) left, top, right, bottom in pixels; edges count as inside.
        calibration: of the frame. image_size: (height, width); what lies beside the image is not seen.
    """
    pixels, _ = calibration.project(xyz.astype(np.float64))
    height, width = image_size
    left, top, right, bottom = box_2d
    u, v = pixels[:, 0], pixels[:, 1]
    inside = (u >= max(left, 0)) & (u <= min(right, width)) & (v >= max(top, 0)) & (v <= min(bottom, height))
    return inside & (xyz[:, 0] > NEAREST)
