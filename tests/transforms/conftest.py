# SPDX-License-Identifier: Apache-2.0
"""A synthetic sample with two cameras, made without pcperc."""

import json

import cv2
import numpy as np
import pytest

HEIGHT, WIDTH = 900, 1600


def camera(yaw_deg: float) -> np.ndarray:
    """(4, 4) LiDAR (x right, y forward, z up) to a camera (x right, y down, z forward), turned and off the origin."""
    cos, sin = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]) @ turn
    matrix[:3, 3] = [0.1, -0.3, -0.7]
    return matrix


@pytest.fixture
def make_sample():
    """Return a factory of samples; ``seed`` decides the points, the boxes and the generator of the transforms."""

    def make(seed: int = 0, num_points: int = 400, num_boxes: int = 6, images: bool = True) -> dict:
        rng = np.random.default_rng(seed)
        points = np.column_stack(
            [rng.uniform(-60, 60, (num_points, 2)), rng.uniform(-4, 4, num_points), rng.uniform(0, 255, num_points)]
        )
        points = np.column_stack([points, rng.uniform(0, 0.5, num_points)]).astype(np.float32)
        boxes = np.column_stack(
            [
                rng.uniform(-40, 40, (num_boxes, 2)),
                rng.uniform(-1, 1, num_boxes),
                rng.uniform(1, 6, (num_boxes, 3)),
                rng.uniform(-np.pi, np.pi, num_boxes),
                rng.normal(0, 5, (num_boxes, 2)),
            ]
        ).astype(np.float32)
        sample = {
            "sample_token": f"token{seed}",
            "points": points,
            "boxes": boxes,
            "labels": rng.integers(0, 10, num_boxes),
            "num_lidar_pts": rng.integers(1, 50, num_boxes),
            "lidar_aug": np.eye(4),
            "rng": np.random.default_rng(seed + 1000),
        }
        if images:
            intrinsics = np.array([[1266.4, 0, 816.3], [0, 1265.0, 491.5], [0, 0, 1]])
            sample |= {
                "images": [np.zeros((HEIGHT, WIDTH, 3), np.uint8) for _ in range(2)],
                "lidar2camera": np.stack([camera(0), camera(110)]),
                "camera2image": np.stack([intrinsics, intrinsics]),
                "image_aug": np.stack([np.eye(3)] * 2),
            }
        return sample

    return make


@pytest.fixture
def real_sample(realdata):
    """Six recorded images with their calibration, as a sample."""
    folder = realdata / "nuscenes" / "keyframe_n015_ca9a282c"
    keyframe = json.loads((folder / "keyframe.json").read_text())
    views = list(keyframe["cams"].values())
    points = np.fromfile(folder / keyframe["lidar"]["file"], np.float32).reshape(-1, 5)
    points[:, 4] = 0
    return {
        "points": points,
        "images": [cv2.cvtColor(cv2.imread(str(folder / view["file"])), cv2.COLOR_BGR2RGB) for view in views],
        "lidar2camera": np.array([view["lidar2cam"] for view in views]),
        "camera2image": np.array([view["K"] for view in views]),
        "image_aug": np.stack([np.eye(3)] * len(views)),
        "lidar_aug": np.eye(4),
    }
