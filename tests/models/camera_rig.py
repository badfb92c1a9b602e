# SPDX-License-Identifier: Apache-2.0
"""Cameras round a car, matrices of augmentations and points, with their projection in float64."""

import math

import numpy as np
import torch

MATRICES = ("lidar2camera", "camera2image", "image_aug", "lidar_aug")
TINY = dict(
    in_channels=6,
    out_channels=4,
    x_bound=(-12.0, 12.0, 1.0),
    y_bound=(-8.0, 8.0, 1.0),
    z_bound=(-10.0, 10.0, 20.0),
    depth_bound=(1.0, 9.0, 1.0),
)


def rotation(axis: int, angle: float) -> np.ndarray:
    i, j = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = math.cos(angle)
    matrix[i, j], matrix[j, i] = -math.sin(angle), math.sin(angle)
    return matrix


def make_rig(rng, *, batch=2, views=3, image_size=(32, 48)) -> dict[str, np.ndarray]:
    """Cameras all round a car, recorded at twice ``image_size``, and strong augmentations; float64."""
    height, width = image_size
    rig = {key: [] for key in MATRICES}
    for _ in range(batch):
        for v in range(views):
            # Camera axes (x right, y down, z forward) from those of the LiDAR (x right, y forward, z up).
            matrix = np.eye(4)
            turn = rotation(2, 2 * math.pi * v / views + rng.uniform(-0.2, 0.2)) @ rotation(0, rng.uniform(-0.1, 0.1))
            matrix[:3, :3] = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]) @ turn
            matrix[:3, 3] = rng.uniform(-0.5, 0.5, 3)
            rig["lidar2camera"].append(matrix)
            focal = rng.uniform(0.8, 1.2) * 2 * width
            rig["camera2image"].append([[focal, 0, width + 3.3], [0, focal * 1.01, height - 2.7], [0, 0, 1]])
            flip = np.diag([-1.0, 1, 1]) if rng.random() < 0.5 else np.eye(3)
            flip[0, 2] = width - 1 if flip[0, 0] < 0 else 0
            resize = np.diag([0.5, 0.5, 1]) * [[rng.uniform(0.9, 1.2)], [rng.uniform(0.9, 1.2)], [1]]
            resize[:2, 2] = rng.uniform(-5, 5, 2)
            rig["image_aug"].append(flip @ rotation(2, rng.uniform(-0.1, 0.1)) @ resize)
        matrix = np.eye(4)
        mirror = np.diag([rng.choice([-1.0, 1.0]), rng.choice([-1.0, 1.0]), 1])
        matrix[:3, :3] = rng.uniform(0.9, 1.1) * mirror @ rotation(2, rng.uniform(-0.8, 0.8))
        matrix[:3, 3] = rng.normal(0, 0.5, 3)
        rig["lidar_aug"].append(matrix)
    arrays = {key: np.array(value) for key, value in rig.items()}
    return {
        key: value if key == "lidar_aug" else value.reshape(batch, views, *value.shape[1:])
        for key, value in arrays.items()
    }


def as_inputs(rig, *, points=None, image_size=(32, 48), device="cpu") -> dict:
    batch, views = rig["lidar2camera"].shape[:2]
    inputs = {key: torch.tensor(rig[key], dtype=torch.float32, device=device) for key in MATRICES}
    inputs["images"] = torch.zeros(batch, views, 3, *image_size, device=device)
    if points is None:
        points = [torch.zeros(0, 5) for _ in range(batch)]
    inputs["points"] = [cloud.to(device) for cloud in points]
    return inputs


def see(rig, b, v, point):
    """Pixel (u, v) and depth of one augmented point, from the definitions of the matrices."""
    recorded = np.linalg.solve(rig["lidar_aug"][b], np.append(point, 1))
    camera = (rig["lidar2camera"][b, v] @ recorded)[:3]
    image = rig["camera2image"][b, v] @ camera
    return (rig["image_aug"][b, v] @ (image / image[2]))[:2], camera[2]


def lift_pixel(rig, b, v, pixel, depth):
    """The augmented point that is seen at ``pixel`` at ``depth``."""
    recorded_pixel = np.linalg.solve(rig["image_aug"][b, v], [*pixel, 1])
    ray = np.linalg.solve(rig["camera2image"][b, v], recorded_pixel)
    recorded = np.linalg.solve(rig["lidar2camera"][b, v], np.append(ray / ray[2] * depth, 1))
    return (rig["lidar_aug"][b] @ recorded)[:3]


def make_points(rng, count=400):
    points = np.zeros((count, 5), np.float32)
    points[:, :3] = rng.uniform((-12, -8, -2), (12, 8, 2), (count, 3))
    return torch.from_numpy(points)
