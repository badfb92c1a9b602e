# SPDX-License-Identifier: Apache-2.0
"""Transforms, quaternions and projection against hand-computed values and the plain chain of matrices."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc.geometry import (
    inverse,
    invert_rigid,
    matrix_to_quaternion,
    project_points,
    quaternion_to_matrix,
    rigid_matrix,
    rotation_z,
    to_homogeneous,
    transform_points,
)

unit_quaternions = (
    st.tuples(*[st.floats(-1, 1)] * 4)
    .map(np.array)
    .filter(lambda q: np.linalg.norm(q) > 0.1)
    .map(lambda q: q / np.linalg.norm(q))
)


@pytest.mark.parametrize(
    ("quaternion", "image_of_x"),
    [
        ([1, 0, 0, 0], [1, 0, 0]),
        ([math.sqrt(0.5), 0, 0, math.sqrt(0.5)], [0, 1, 0]),  # 90 degrees about z
        ([math.sqrt(0.5), 0, math.sqrt(0.5), 0], [0, 0, -1]),  # about y
        ([0, 1, 0, 0], [1, 0, 0]),  # 180 degrees about x
        ([0, 0, 0, 1], [-1, 0, 0]),  # about z
    ],
)
def test_quaternion_by_hand(quaternion, image_of_x):
    np.testing.assert_allclose(quaternion_to_matrix(quaternion) @ [1, 0, 0], image_of_x, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(unit_quaternions)
def test_quaternion_round_trip(quaternion):
    matrix = quaternion_to_matrix(quaternion)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    back = matrix_to_quaternion(matrix)
    assert back[0] >= 0
    assert abs(abs(back @ quaternion) - 1) < 1e-12


def test_quaternions_in_batches():
    q = np.random.default_rng(0).normal(size=(2, 5, 4))
    q /= np.linalg.norm(q, axis=-1, keepdims=True)
    matrices = quaternion_to_matrix(q)
    assert matrices.shape == (2, 5, 3, 3)
    np.testing.assert_allclose(matrices[1, 3], quaternion_to_matrix(q[1, 3]))
    np.testing.assert_allclose(matrix_to_quaternion(matrices), np.where(q[..., :1] < 0, -q, q), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(unit_quaternions, st.tuples(*[st.floats(-1e3, 1e3)] * 3))
def test_invert_rigid(quaternion, translation):
    matrix = rigid_matrix(translation, quaternion)
    np.testing.assert_allclose(invert_rigid(matrix) @ matrix, np.eye(4), atol=1e-9)
    np.testing.assert_array_equal(invert_rigid(torch.from_numpy(matrix)).numpy(), invert_rigid(matrix))


def test_transform_points_keeps_the_other_columns():
    points = np.array([[1, 0, 0, 100, 0.5], [0, 2, 1, 50, 0.0]], np.float32)
    matrix = rigid_matrix([10, 0, 0], rotation_z(math.pi / 2)[:3, :3])
    expected = [[10, 1, 0, 100, 0.5], [8, 0, 1, 50, 0.0]]
    moved = transform_points(points, matrix)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, expected, atol=1e-6)
    np.testing.assert_allclose(
        transform_points(torch.from_numpy(points), torch.from_numpy(matrix)), expected, atol=1e-6
    )
    assert points[0, 0] == 1  # the input is not changed


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_projection_by_hand(kind):
    # Camera 1 m above the LiDAR, looking along LiDAR +y; 100 pixels focal length, principal point (50, 40).
    lidar2camera = np.array([[[1, 0, 0, 0], [0, 0, -1, 1], [0, 1, 0, 0], [0, 0, 0, 1]]], float)
    camera2image = np.array([[[100, 0, 50], [0, 100, 40], [0, 0, 1]]], float)
    points = np.array([[1, 10, 1, 7.0], [0, 10, 0, 7.0], [0, -5, 0, 7.0]])
    image_aug = np.array([[[0.5, 0, 3], [0, 0.5, 0], [0, 0, 1]]])
    inputs = [points, lidar2camera, camera2image, image_aug]
    if kind == "torch":
        inputs = [torch.from_numpy(x) for x in inputs]
    pixels, depth = project_points(*inputs[:3])
    np.testing.assert_allclose(depth, [[10, 10, -5]])
    np.testing.assert_allclose(pixels[0, :2], [[60, 40], [50, 50]])
    assert np.isfinite(np.asarray(pixels)).all()
    pixels, _ = project_points(*inputs)
    np.testing.assert_allclose(pixels[0, :2], [[33, 20], [28, 25]])


def test_projection_undoes_the_augmentation_of_the_cloud():
    rng = np.random.default_rng(1)
    points = rng.uniform(-20, 20, (50, 3))
    lidar_aug = 1.1 * rotation_z(0.3)
    lidar_aug[1] *= -1
    lidar_aug[:, 3] = [0.5, -0.2, 0.1, 1]
    lidar2camera = np.stack(
        [rigid_matrix([0, 1, 2], [0.5, 0.5, -0.5, 0.5]), rigid_matrix([0, 0, 1], [0.5, -0.5, 0.5, 0.5])]
    )
    camera2image = np.stack([np.diag([900.0, 900, 1])] * 2)
    moved = points @ lidar_aug[:3, :3].T + lidar_aug[:3, 3]
    plain, depth = project_points(points, lidar2camera, camera2image)
    undone, depth_undone = project_points(moved, lidar2camera, camera2image, lidar_aug=lidar_aug)
    assert plain.shape == (2, 50, 2)
    np.testing.assert_allclose(depth_undone, depth, atol=1e-9)
    seen = depth > 0.5
    assert seen.sum() > 20
    np.testing.assert_allclose(undone[seen], plain[seen], atol=1e-6)
    batched, _ = project_points(*(torch.from_numpy(np.stack([x, x])) for x in (points, lidar2camera, camera2image)))
    np.testing.assert_allclose(batched[1], plain)


def test_inverse(device):
    matrices = torch.randn(5, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = inverse(matrices.to(device))
    assert found.device.type == device.type and torch.equal(found.cpu(), torch.linalg.inv(matrices))
    np.testing.assert_allclose(inverse(matrices.numpy()), found.cpu().numpy(), rtol=1e-9, atol=1e-12)
    with pytest.raises(torch.linalg.LinAlgError, match="singular"):
        inverse(torch.zeros(1, 3, 3, device=device))


def test_homogeneous():
    np.testing.assert_array_equal(to_homogeneous(np.array([[1.0, 2, 3]])), [[1, 2, 3, 1]])
    assert to_homogeneous(torch.zeros(2, 5, 3)).shape == (2, 5, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: to_homogeneous(np.zeros((2, 4))), r"points must be \(\.\.\., 3\), got \(2, 4\)"),
        (lambda: invert_rigid(np.eye(3)), r"matrix must be \(\.\.\., 4, 4\), got \(3, 3\)"),
        (lambda: quaternion_to_matrix([1, 0, 0]), r"quaternion must be \(\.\.\., 4\)"),
        (lambda: quaternion_to_matrix([0, 0, 0, 0]), "length 1"),
        (lambda: quaternion_to_matrix([2, 0, 0, 0]), "length 1"),
        (lambda: matrix_to_quaternion(np.eye(2)), r"matrix must be \(\.\.\., 3, 3\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
