# SPDX-License-Identifier: Apache-2.0
"""A frame whose pictures can be foretold: LiDAR and ego frame are one, a camera at the origin looks along +x."""

import numpy as np
import pytest

from pcperc.geometry import Detections
from pcperc.visualization import CLASS_COLORS, Frame

FOCAL, SIZE = 200.0, (180, 320)
LOOKING_FORWARD = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


def detections(*rows) -> Detections:
    """Rows of (class name, box)."""
    classes = list(CLASS_COLORS)
    return Detections(
        np.array([box for _, box in rows], np.float32).reshape(-1, 9),
        np.linspace(0.9, 0.5, len(rows)).astype(np.float32),
        np.array([classes.index(name) for name, _ in rows], np.int64),
    )


@pytest.fixture
def make_frame():
    def make(truth=None, predictions=None, *, points=None, **more) -> Frame:
        return Frame(
            token="0123456789abcdef",
            scene_name=more.pop("scene_name", "scene-0001"),
            classes=tuple(CLASS_COLORS),
            points=np.zeros((0, 5), np.float32) if points is None else np.asarray(points, np.float32),
            lidar2ego=np.eye(4),
            truth=truth,
            predictions=predictions,
            images=(np.zeros((*SIZE, 3), np.uint8),),
            lidar2camera=LOOKING_FORWARD[None],
            camera2image=np.array([[[FOCAL, 0, 160.0], [0, FOCAL, 90.0], [0, 0, 1]]]),
            image_aug=np.eye(3)[None],
            cameras=("CAM_FRONT",),
            **more,
        )

    return make


@pytest.fixture
def find():
    """Return a function giving the pixels (u, v) of a picture in a class's colour; the legend can be cut off."""

    def find(picture: np.ndarray, name: str, *, width: int | None = None, tolerance: int = 40) -> np.ndarray:
        difference = np.abs(picture[:, :width].astype(int) - CLASS_COLORS[name]).max(axis=2)
        return np.argwhere(difference <= tolerance)[:, ::-1]

    return find
