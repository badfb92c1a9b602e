# SPDX-License-Identifier: Apache-2.0
"""Boxes against hand-computed values, against homogeneous corners, and round trips."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc.geometry import (
    BOX_EDGES,
    FRONT_FACE,
    box_corners,
    boxes_from_nuscenes,
    boxes_to_nuscenes,
    invert_rigid,
    rigid_matrix,
    rotation_z,
    transform_boxes,
    wrap_angle,
)

# At (10, 20, 1), 4 long, 2 wide, 1 high, heading along +y at 3 m/s.
CAR = np.array([[10.0, 20.0, 1.0, 4.0, 2.0, 1.0, math.pi / 2, 0.0, 3.0]])
KINDS = {"numpy": lambda x: x, "torch": torch.from_numpy}


def similarity(scale=1.0, angle=0.0, shift=(0.0, 0.0, 0.0), mirror=(1.0, 1.0, 1.0)):
    matrix = np.eye(4)
    cos, sin = math.cos(angle), math.sin(angle)
    matrix[:3, :3] = scale * np.diag(mirror) @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    matrix[:3, 3] = shift
    return matrix


@pytest.mark.parametrize("kind", KINDS)
def test_corners_by_hand(kind):
    corners = np.asarray(box_corners(KINDS[kind](CAR)))[0]
    # Heading +y: front is at y = 22, left is towards -x.
    expected = [
        [9, 22, 0.5],
        [9, 18, 0.5],
        [11, 18, 0.5],
        [11, 22, 0.5],
        [9, 22, 1.5],
        [9, 18, 1.5],
        [11, 18, 1.5],
        [11, 22, 1.5],
    ]
    np.testing.assert_allclose(corners, expected, atol=1e-12)
    assert (corners[list(FRONT_FACE), 1] > 21.9).all()
    lengths = sorted(round(float(np.linalg.norm(corners[a] - corners[b])), 6) for a, b in BOX_EDGES)
    assert lengths == [1.0] * 4 + [2.0] * 4 + [4.0] * 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (np.eye(4), CAR[0]),
        (similarity(shift=(1, 2, 3)), [11, 22, 4, 4, 2, 1, math.pi / 2, 0, 3]),
        (similarity(angle=math.pi / 2), [-20, 10, 1, 4, 2, 1, -math.pi, -3, 0]),
        (similarity(scale=2), [20, 40, 2, 8, 4, 2, math.pi / 2, 0, 6]),
        (similarity(mirror=(1, -1, 1)), [10, -20, 1, 4, 2, 1, -math.pi / 2, 0, -3]),
        (similarity(mirror=(-1, 1, 1)), [-10, 20, 1, 4, 2, 1, math.pi / 2, 0, 3]),
    ],
    ids=["identity", "shift", "quarter_turn", "scale2", "flip_y", "flip_x"],
)
def test_transform_by_hand(kind, matrix, expected):
    moved = np.asarray(transform_boxes(KINDS[kind](CAR), KINDS[kind](matrix)))[0]
    np.testing.assert_allclose(np.delete(moved, 6), np.delete(expected, 6), atol=1e-12)
    assert abs((moved[6] - expected[6] + math.pi) % (2 * math.pi) - math.pi) < 1e-12
    assert -math.pi <= moved[6] < math.pi


finite = st.floats(-50, 50)
boxes_strategy = st.lists(
    st.tuples(finite, finite, finite, *[st.floats(0.1, 20)] * 3, st.floats(-4, 4), finite, finite),
    min_size=1,
    max_size=4,
).map(np.array)


@settings(max_examples=40, deadline=None)
@given(
    boxes_strategy,
    st.floats(0.5, 2),
    st.floats(-4, 4),
    st.tuples(finite, finite, finite),
    st.sampled_from([(1, 1, 1), (-1, 1, 1), (1, -1, 1)]),
)
def test_moved_box_has_the_moved_corners(boxes, scale, angle, shift, mirror):
    matrix = similarity(scale, angle, shift, mirror)
    corners = box_corners(boxes)
    moved = corners @ matrix[:3, :3].T + matrix[:3, 3]
    found = box_corners(transform_boxes(boxes, matrix))
    for a, b in zip(moved, found, strict=True):  # a mirror swaps left and right, so compare as sets; front stays front
        assert np.abs(a[:, None] - b[None]).max(-1).min(1).max() < 1e-9
        np.testing.assert_allclose(a[list(FRONT_FACE)].mean(0), b[list(FRONT_FACE)].mean(0), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(boxes_strategy, st.floats(-4, 4), st.floats(-0.2, 0.2), st.floats(-0.2, 0.2))
def test_source_and_target_undo_each_other_on_a_tilted_sensor(boxes, yaw, pitch, roll):
    w, x = math.cos(roll / 2), math.sin(roll / 2)
    tilt = rigid_matrix([1, 2, 3], np.array([w, x, 0, 0]))
    c, s = math.cos(pitch), math.sin(pitch)
    tilt[:3, :3] = tilt[:3, :3] @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    matrix = tilt @ rotation_z(yaw)
    back = transform_boxes(transform_boxes(boxes, matrix), invert_rigid(matrix), upright="target")
    assert np.abs(wrap_angle(back[:, 6] - boxes[:, 6])).max() < 1e-9
    np.testing.assert_allclose(np.delete(back, 6, 1), np.delete(boxes, 6, 1), atol=1e-9)


def test_nan_velocity_stays_unknown_and_alone():
    boxes = np.tile(CAR, (2, 1))
    boxes[0, 7:] = np.nan
    moved = transform_boxes(boxes, similarity(angle=1.0))
    assert np.isnan(moved[0, 7:]).all()
    assert np.isfinite(moved[0, :7]).all() and np.isfinite(moved[1]).all()


@pytest.mark.parametrize("columns", [7, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_empty_and_dtype(kind, columns):
    boxes = KINDS[kind](np.zeros((0, columns), np.float32))
    moved = transform_boxes(boxes, KINDS[kind](np.eye(4)))
    assert moved.shape == (0, columns) and moved.dtype == boxes.dtype
    assert tuple(box_corners(boxes).shape) == (0, 8, 3)


def test_torch_float32_equals_numpy_float64():
    matrix = rigid_matrix([400.0, 1100.0, 2.0], [0.6, 0.0, 0.0, 0.8])
    boxes = np.concatenate([CAR, CAR + 0.25])
    moved = transform_boxes(torch.from_numpy(boxes).float(), torch.from_numpy(matrix))
    assert moved.dtype == torch.float32
    np.testing.assert_allclose(moved.numpy(), transform_boxes(boxes, matrix), rtol=1e-6, atol=1e-6)


def test_corners_are_differentiable():
    boxes = torch.from_numpy(CAR).requires_grad_()
    assert torch.autograd.gradcheck(box_corners, (boxes,))


@pytest.mark.parametrize(
    ("angle", "expected"),
    [
        (0.0, 0.0),
        (math.pi, -math.pi),
        (-math.pi, -math.pi),
        (7.0, 7.0 - 2 * math.pi),
        (-4.0, 2 * math.pi - 4.0),
    ],
)
def test_wrap_angle(angle, expected):
    assert wrap_angle(angle) == pytest.approx(expected, abs=1e-12)
    assert wrap_angle(torch.tensor(angle, dtype=torch.float64)).item() == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.floats(-1e4, 1e4))
def test_wrap_angle_keeps_the_direction_and_the_interval(angle):
    wrapped = wrap_angle(angle)
    assert -math.pi <= wrapped < math.pi
    assert math.cos(wrapped) == pytest.approx(math.cos(angle), abs=1e-9)
    assert math.sin(wrapped) == pytest.approx(math.sin(angle), abs=1e-9)


def test_nuscenes_form_by_hand():
    columns = boxes_to_nuscenes(CAR, similarity(shift=(100, 200, 0)))
    np.testing.assert_allclose(columns["translation"], [[110, 220, 1]])
    np.testing.assert_allclose(columns["size"], [[2, 4, 1]])  # width, length, height
    half = math.sqrt(0.5)
    np.testing.assert_allclose(columns["rotation"], [[half, 0, 0, half]])
    np.testing.assert_allclose(columns["velocity"], [[0, 3]], atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(boxes_strategy, st.floats(-3, 3))
def test_nuscenes_form_round_trip(boxes, yaw):
    lidar2global = rigid_matrix([411, 1180, 0], [0.9998, 0.01, -0.015, math.sqrt(1 - 0.9998**2 - 0.000325)])
    lidar2global = lidar2global @ rotation_z(yaw)
    columns = boxes_to_nuscenes(boxes, lidar2global)
    back = boxes_from_nuscenes(**columns, global2lidar=invert_rigid(lidar2global))
    assert np.abs(wrap_angle(back[:, 6] - boxes[:, 6])).max() < 1e-9
    np.testing.assert_allclose(np.delete(back, 6, 1), np.delete(boxes, 6, 1), atol=1e-9)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: box_corners(np.zeros((3, 8))), ValueError, r"box_corners: boxes must be .*got \(3, 8\)"),
        (lambda: box_corners([[0.0] * 7]), TypeError, "box_corners: boxes must be a numpy array"),
        (lambda: box_corners(np.zeros((3, 7), int)), ValueError, "floating"),
        (lambda: transform_boxes(CAR, np.eye(3)), ValueError, r"matrix must be \(4, 4\)"),
        (lambda: transform_boxes(CAR, np.diag([1.0, 2, 1, 1])), ValueError, "uniform scale"),
        (lambda: transform_boxes(CAR, np.zeros((4, 4))), ValueError, "uniform scale"),
        (lambda: transform_boxes(CAR, np.diag([1.0, 1, 1, 1])[[0, 2, 1, 3]]), ValueError, "keeps z"),
        (lambda: transform_boxes(CAR, np.eye(4), upright="world"), ValueError, "upright must be 'source' or 'target'"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
