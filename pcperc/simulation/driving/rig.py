# SPDX-License-Identifier: Apache-2.0
"""The sensors of the recording car: one LiDAR on the roof and six cameras around it, laid out as in nuScenes.

Numbers are rounded from the published calibration; every scene's rig is off by a little, as every real car's is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pcperc.geometry import rigid_matrix, rotation_z

# channel: x, y, z in the ego frame (m), yaw (deg), focal length (pixels at 1600 x 900), fired this early (us)
CAMERAS = {
    "CAM_FRONT": (1.70, 0.02, 1.51, 0.0, 1266.0, 35_500),
    "CAM_FRONT_RIGHT": (1.55, -0.49, 1.50, -56.4, 1261.0, 27_500),
    "CAM_BACK_RIGHT": (1.01, -0.48, 1.56, -110.8, 1260.0, 20_000),
    "CAM_BACK": (0.03, 0.00, 1.58, 180.0, 809.0, 10_500),
    "CAM_BACK_LEFT": (1.04, 0.48, 1.59, 108.6, 1257.0, 500),
    "CAM_FRONT_LEFT": (1.52, 0.49, 1.51, 55.2, 1272.0, 43_000),
}
LIDAR = (0.94, 0.0, 1.84)
IMAGE_SIZE = (900, 1600)


@dataclass(frozen=True)
class Rig:
    """Calibration of one scene: ``lidar2ego`` (4, 4), ``camera2ego`` {channel: (4, 4)} and ``camera2image``
    {channel: (3, 3)} for images of ``size`` (height, width)."""

    lidar2ego: np.ndarray
    camera2ego: dict[str, np.ndarray]
    camera2image: dict[str, np.ndarray]
    size: tuple[int, int]


def _tilt(rng: np.random.Generator, spread: float) -> np.ndarray:
    """A small random rotation (4, 4); ``spread`` in radians."""
    a, b, c = rng.normal(0, spread, 3)
    skew = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    matrix = np.eye(4)
    matrix[:3, :3] = np.linalg.qr(np.eye(3) + skew)[0]
    matrix[:3, :3] *= np.sign(np.diag(matrix[:3, :3]))  # qr leaves the signs of the columns open
    return matrix


def make_rig(rng: np.random.Generator, size: tuple[int, int] = IMAGE_SIZE) -> Rig:
    """Draw the rig of a scene for images of ``size`` (height, width)."""
    # The LiDAR's x points to the right of the car and its y forward.
    lidar2ego = rigid_matrix(LIDAR, rotation_z(-math.pi / 2)[:3, :3]) @ _tilt(rng, 0.005)
    axes = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # camera axes in a frame that looks along +x
    camera2ego, camera2image = {}, {}
    for channel, (x, y, z, yaw, focal, _) in CAMERAS.items():
        place = np.array([x, y, z]) + rng.normal(0, 0.01, 3)
        camera2ego[channel] = rigid_matrix(place, rotation_z(math.radians(yaw))[:3, :3] @ axes) @ _tilt(rng, 0.006)
        scale = size[1] / 1600
        focal *= scale * rng.uniform(0.997, 1.003)
        # Pixel centres lie at whole numbers, so the middle of the sensor moves by half a pixel with the scale.
        u, v = (scale * (c + rng.normal(0, 6) + 0.5) - 0.5 for c in (810.0, 487.0))
        camera2image[channel] = np.array([[focal, 0, u], [0, focal, v], [0, 0, 1.0]])
    return Rig(lidar2ego, camera2ego, camera2image, size)
