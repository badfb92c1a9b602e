# SPDX-License-Identifier: Apache-2.0
"""Depth images of points against a loop in float64, under random augmentations of images and points."""

import math

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from pcperc.models.bevfusion.depth_view_transform import render_depth
from tests.models.camera_rig import MATRICES, as_inputs, make_points, make_rig, see


def test_depth_image_equals_loop(device):
    rng = np.random.default_rng(1)
    rig = {key: value.astype(np.float32).astype(np.float64) for key, value in make_rig(rng).items()}
    clouds = [make_points(rng), make_points(rng, 150)]
    expected = np.zeros((2, 3, 1, 32, 48))
    for b, cloud in enumerate(clouds):
        for v in range(3):
            for point in cloud[:, :3].double().numpy():
                (u, w), depth = see(rig, b, v, point)
                column, row = round(u), round(w)
                if depth > 1e-3 and 0 <= column < 48 and 0 <= row < 32:
                    drawn = expected[b, v, 0, row, column]
                    expected[b, v, 0, row, column] = depth if drawn == 0 else min(drawn, depth)
    assert (expected > 0).sum() > 50
    inputs = as_inputs(rig, points=clouds, device=device)
    got = render_depth(inputs["points"], **{key: inputs[key] for key in MATRICES}, image_size=(32, 48))
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.cpu().numpy(), expected, rtol=1e-6)


def straight_camera() -> dict[str, torch.Tensor]:
    """One camera whose axes are those of the LiDAR, focal length 10 pixels, centre at pixel (2, 1)."""
    return dict(
        lidar2camera=torch.eye(4)[None, None],
        camera2image=torch.tensor([[[[10.0, 0, 2], [0, 10, 1], [0, 0, 1]]]]),
        image_aug=torch.eye(3)[None, None],
        lidar_aug=torch.eye(4)[None],
    )


def test_nearest_point_stays_in_any_order():
    points = torch.tensor([[0.0, 0, 5], [0, 0, 2], [0, 0, 9], [0, 0, -1], [0.2, 0, 2], [9, 9, 1], [0, 0.2, 4.0]])
    expected = torch.zeros(3, 4)
    expected[1, 2], expected[1, 3] = 2, 2  # 10 * 0.2 / 2 = 1 pixel to the right
    expected[2, 2] = 4  # 10 * 0.2 / 4 = 0.5 pixel down: pixel 2 covers [1.5, 2.5)
    for order in (range(7), reversed(range(7))):
        got = render_depth([points[list(order)]], **straight_camera(), image_size=(3, 4))
        assert torch.equal(got[0, 0, 0], expected)


def test_no_points_and_points_that_are_not_numbers():
    empty = render_depth([torch.zeros(0, 5)], **straight_camera(), image_size=(3, 4))
    assert empty.shape == (1, 1, 1, 3, 4) and empty.eq(0).all()
    bad = torch.tensor([[math.nan, 0, 1], [0, 0, math.nan], [0, math.inf, 1], [0, 0, 0], [0, 0, 3.0]])
    got = render_depth([bad], **straight_camera(), image_size=(3, 4))
    assert got.sum() == 3 and got[0, 0, 0, 1, 2] == 3


def test_what_no_camera_sees_leaves_no_trace(device):
    """More such points than pixels, each with a cell of its own past the images: none waits for another's."""
    points = torch.tensor([[0.0, 0, -1]] * 50 + [[0.1, 0.1, 1]] + [[9, 9, 1]] * 50)
    rig = {key: value.to(device) for key, value in straight_camera().items()}
    with Targets() as mode:
        got = render_depth([points.to(device)], **rig, image_size=(3, 4))
    assert got[0, 0, 0, 2, 3] == 1 and got.count_nonzero() == 1
    assert mode.found.unique().numel() == len(points) and (mode.found < 12).sum() == 1


class Targets(TorchFunctionMode):
    """Keeps where ``scatter_reduce_`` writes."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.scatter_reduce_:
            self.found = args[2]
        return function(*args, **(kwargs or {}))


def test_number_of_clouds_is_checked():
    with pytest.raises(ValueError, match="points must be a list of 1 tensors, got 2"):
        render_depth([torch.zeros(0, 5)] * 2, **straight_camera(), image_size=(3, 4))
