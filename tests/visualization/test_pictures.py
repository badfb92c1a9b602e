# SPDX-License-Identifier: Apache-2.0
"""Where boxes, points and labels appear in the two-dimensional pictures."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from pcperc.geometry import IGNORED, Detections, PointLabels, rotation_z
from pcperc.visualization import (
    CLASS_COLORS,
    Frame,
    colorings,
    default_coloring,
    draw_birds_eye,
    draw_camera_mosaic,
    draw_camera_overlay,
    save_png,
)
from pcperc.visualization.birds_eye import ego_to_pixel
from pcperc.visualization.colors import SIMULATED, class_color, point_colors
from pcperc.visualization.point_colors import RIGHT, UNSCORED, WRONG, colors_of_points
from tests.visualization.conftest import detections

CAR_AHEAD = [20.0, 0, 0, 4, 2, 2, 0, 0, 0]


def test_ahead_is_up_and_left_is_left():
    # 10 pixels a metre: the vehicle is in the middle of 1080 pixels, whose centres are 0 to 1079.
    pixels = ego_to_pixel(np.array([[0.0, 0], [54, 54], [10, 0], [0, 10]]), extent=54, size=1080)
    np.testing.assert_allclose(pixels, [[539.5, 539.5], [-0.5, -0.5], [539.5, 439.5], [439.5, 539.5]])


def test_birds_eye_draws_a_box_where_it_is(make_frame, find):
    frame = make_frame(
        detections(("car", [20, 5, 0, 4, 2, 1.5, 0, 0, 0]), ("bus", [-30, -10, 0, 10, 3, 3, 1.57, 0, 0]))
    )
    picture = draw_birds_eye(frame, extent=54, size=1080)
    assert picture.shape[0] == 1080 and picture.shape[1] > 1080
    car, bus = find(picture, "car", width=1080), find(picture, "bus", width=1080)
    np.testing.assert_allclose(car.min(axis=0), [539.5 - 60, 539.5 - 220], atol=2)
    np.testing.assert_allclose(car.max(axis=0), [539.5 - 40, 539.5 - 180], atol=2)
    np.testing.assert_allclose(bus.min(axis=0), [539.5 + 50, 539.5 + 285], atol=2)
    np.testing.assert_allclose(bus.max(axis=0), [539.5 + 150, 539.5 + 315], atol=2)


@pytest.mark.parametrize("yaw_deg", [0, 90, 200])
def test_birds_eye_shows_the_heading(make_frame, find, yaw_deg):
    """The line inside the footprint runs from the centre to the front."""
    yaw = math.radians(yaw_deg)
    picture = draw_birds_eye(make_frame(detections(("car", [0, 20, 0, 8, 4, 2, yaw, 0, 0]))), extent=54, size=1080)
    car = find(picture, "car", width=1080) - [539.5 - 200, 539.5]
    forward = -car[:, 1] * math.cos(yaw) - car[:, 0] * math.sin(yaw)
    sideways = -car[:, 1] * -math.sin(yaw) - car[:, 0] * math.cos(yaw)
    inner = forward[(np.abs(sideways) < 10)]
    assert (np.abs(inner - 20) < 8).any() and not (np.abs(inner + 20) < 8).any()


def test_birds_eye_arrow_is_one_second_long(make_frame, find):
    still = draw_birds_eye(make_frame(detections(("car", CAR_AHEAD))), size=1080)
    moving = draw_birds_eye(make_frame(detections(("car", [*CAR_AHEAD[:7], 10, 0]))), size=1080)
    unknown = draw_birds_eye(make_frame(detections(("car", [*CAR_AHEAD[:7], math.nan, math.nan]))), size=1080)
    assert find(still, "car", width=1080)[:, 1].min() == pytest.approx(539.5 - 220, abs=2)
    assert find(moving, "car", width=1080)[:, 1].min() == pytest.approx(539.5 - 300, abs=3)
    np.testing.assert_array_equal(still, unknown)


def test_birds_eye_points(make_frame):
    picture = draw_birds_eye(make_frame(points=[[30, -20, 1, 9, 0], [300, 0, 0, 0, 0]]), extent=54, size=1080)
    empty = draw_birds_eye(make_frame(), extent=54, size=1080)
    changed = np.argwhere((picture != empty).any(axis=2))
    np.testing.assert_array_equal(changed, [[240, 740]])  # 539.5 - 300 and 539.5 + 200, rounded to even


def test_camera_overlay_draws_a_box_where_it_is_seen(make_frame, find):
    picture = draw_camera_overlay(make_frame(detections(("car", CAR_AHEAD))), 0)
    car = find(picture, "car")
    # The near face, 18 m away and 2 m wide, reaches 200 / 18 pixels around (160, 90).
    np.testing.assert_allclose(car.min(axis=0), [160 - 200 / 18, 90 - 200 / 18], atol=2)
    np.testing.assert_allclose(car.max(axis=0), [160 + 200 / 18, 90 + 200 / 18], atol=2)


def test_camera_overlay_at_another_size_and_after_augmentation(make_frame, find):
    frame = make_frame(detections(("car", CAR_AHEAD)), None)
    half = find(draw_camera_overlay(frame, 0, width=160), "car")
    np.testing.assert_allclose((half.min(axis=0) + half.max(axis=0)) / 2, [160 / 2 - 0.25, 90 / 2 - 0.25], atol=1)
    moved = np.array([[[1.0, 0, 40], [0, 1, -30], [0, 0, 1]]])
    augmented = find(draw_camera_overlay(Frame(**{**vars(frame), "image_aug": moved}), 0), "car")
    np.testing.assert_allclose((augmented.min(axis=0) + augmented.max(axis=0)) / 2, [200, 60], atol=1)


def test_camera_overlay_leaves_out_what_is_behind(make_frame, find):
    behind = make_frame(detections(("car", [-20, 0, 0, 4, 2, 2, 0, 5, 0])))
    assert len(find(draw_camera_overlay(behind, 0), "car")) == 0
    around = make_frame(detections(("bus", [1.0, 0, 0, 12, 3, 3, 0, 0, 0])))  # the camera is inside the box
    assert len(find(draw_camera_overlay(around, 0), "bus")) > 100


def test_truth_looks_different_beside_predictions(make_frame, find):
    truth, found = detections(("car", CAR_AHEAD)), detections(("bus", CAR_AHEAD))
    alone = find(draw_birds_eye(make_frame(truth), size=540), "car", width=540)
    beside = find(draw_birds_eye(make_frame(truth, found), size=540), "car", width=540)
    assert len(alone) > 20 and len(beside) == 0


def test_mosaic_holds_every_camera_and_needs_one(make_frame):
    frame = make_frame()
    names = ("CAM_BACK", "CAM_FRONT")
    images = tuple(np.full((90, 160, 3), level, np.uint8) for level in (50, 200))
    twice = {key: np.repeat(getattr(frame, key), 2, axis=0) for key in ("lidar2camera", "camera2image", "image_aug")}
    two = Frame(**{**vars(frame), "images": images, "cameras": names, **twice})
    mosaic = draw_camera_mosaic(two, tile_width=160)
    assert mosaic[70, 80].tolist() == [200] * 3 and mosaic[70, 240].tolist() == [50] * 3  # front first
    with pytest.raises(ValueError, match="frame 0123456789abcdef must have images, got none"):
        draw_camera_mosaic(Frame(**{**vars(frame), "images": ()}))


@pytest.mark.parametrize(
    ("draw", "counted"),
    [(draw_birds_eye, ["car", "bus", "truck"]), (draw_camera_mosaic, ["car", "trailer", "barrier"])],
)
def test_the_legend_counts_what_is_drawn(make_frame, monkeypatch, draw, counted):
    truth = detections(
        ("car", CAR_AHEAD),
        ("bus", [-30, 0, 0, 10, 3, 3, 0, 0, 0]),  # behind
        ("truck", [-30, 54.5, 0, 8, 3, 3, 0, 0, 0]),  # its right side is within 54 m
        ("trailer", [80, 0, 0, 10, 3, 3, 0, 0, 0]),  # far ahead
        ("barrier", [60, 48.5, 0, 1, 1, 1, 0, 0, 0]),  # 160 pixels to the left: at the edge of the image
        ("bicycle", [60, 52, 0, 1, 1, 1, 0, 0, 0]),
    )
    legends = []

    def legend(picture, frame, **_):
        legends.append(frame)
        return picture

    monkeypatch.setattr(f"{draw.__module__}.beside_legend", legend)
    draw(make_frame(truth, detections(("car", CAR_AHEAD), ("bus", [0, 90, 0, 10, 3, 3, 0, 0, 0]))))
    (frame,) = legends
    assert [frame.classes[label] for label in frame.truth.labels] == counted
    assert [frame.classes[label] for label in frame.predictions.labels] == ["car"]
    draw(make_frame())
    assert legends[1].truth is None and legends[1].predictions is None


@pytest.mark.parametrize("draw", [draw_birds_eye, draw_camera_mosaic])
def test_simulated_data_is_labelled(make_frame, draw):
    def label(picture):
        return (np.abs(picture.astype(int) - SIMULATED).max(axis=2) < 30).sum()

    assert label(draw(make_frame())) == 0
    assert label(draw(make_frame(simulated=True))) > 50


def test_scene_names_with_sim_are_simulated():
    sample = {"scene_name": "sim-0003", "points": np.zeros((0, 5), np.float32)}
    assert Frame.from_sample(sample, classes=["car"]).simulated
    assert not Frame.from_sample({**sample, "scene_name": "scene-0003"}, classes=["car"]).simulated


def test_frame_undoes_the_augmentation():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5, 5)).astype(np.float32)
    moved = points.copy()
    aug = rotation_z(0.5)
    aug[:3] *= 1.1
    moved[:, :3] = points[:, :3] @ aug[:3, :3].T
    boxes = np.array([[1.1 * math.cos(0.5), 1.1 * math.sin(0.5), 0, 4.4, 2.2, 1.1, 0.5, 0, 0]], np.float32)
    sample = {"points": moved, "boxes": boxes, "labels": np.array([0]), "lidar_aug": aug}
    frame = Frame.from_sample(sample, classes=["car"])
    np.testing.assert_allclose(frame.points, points, atol=1e-5)
    np.testing.assert_allclose(frame.truth.boxes, [[1, 0, 0, 4, 2, 1, 0, 0, 0]], atol=1e-5)


def test_threshold(make_frame):
    found = Detections(np.zeros((3, 9)), np.array([0.9, 0.2, 0.19]), np.array([0, 1, 2]))
    assert make_frame(None, found).above(0.2).predictions.labels.tolist() == [0, 1]
    assert make_frame().above(0.2).predictions is None


def test_colors():
    assert len(set(CLASS_COLORS.values())) == len(CLASS_COLORS) == 10
    assert class_color("tram", 10) != class_color("boat", 11)
    points = np.array([[0, 0, -1, 0, 0], [0, 0, 4, 255, 0]], np.float32)
    for by in ("height", "intensity"):
        low, high = point_colors(points, by=by).astype(int).sum(axis=1)
        assert low < high
    assert point_colors(np.zeros((0, 5))).shape == (0, 3)
    with pytest.raises(ValueError, match="by must be one of height, intensity, got 'ring'"):
        point_colors(points, by="ring")


def test_png_is_whole_or_absent(tmp_path):
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    path = save_png(tmp_path / "new" / "a.png", image)
    np.testing.assert_array_equal(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), image)
    (tmp_path / "b.png").mkdir()
    with pytest.raises(OSError, match=r"b\.png: cannot be written"):
        save_png(tmp_path / "b.png", image)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.png", "new"]


def test_colours_of_points_by_what_is_said_of_them(make_frame):
    points = np.zeros((5, 5), np.float32)
    truth, predicted = np.array([0, 1, 1, IGNORED, 9]), np.array([0, 0, 1, 1, IGNORED])
    frame = replace(make_frame(points=points), point_labels=truth, predicted_labels=predicted)
    assert colorings(frame) == ("height", "intensity", "class", "truth", "error") and default_coloring(frame) == "class"
    colors = list(CLASS_COLORS.values())
    assert colors_of_points(frame, by="truth")[[0, 1, 4]].tolist() == [list(colors[i]) for i in (0, 1, 9)]
    assert colors_of_points(frame, by="class")[:3].tolist() == [list(colors[i]) for i in (0, 0, 1)]
    error = colors_of_points(frame, by="error").tolist()
    assert error == [list(c) for c in (RIGHT, WRONG, RIGHT, UNSCORED, WRONG)]
    only_truth = replace(frame, predicted_labels=None, point_instances=np.array([0, 1, 1, 2, 0]))
    assert (colors_of_points(only_truth, by="class") == colors_of_points(frame, by="truth")).all()
    objects = colors_of_points(only_truth, by="instance").tolist()
    assert objects[1] == objects[2] != objects[3] and objects[0] == objects[4] not in objects[1:4]
    assert default_coloring(make_frame(points=points)) == "height"
    with pytest.raises(ValueError, match="by must be one of height, intensity, got 'error'"):
        colors_of_points(make_frame(points=points), by="error")
    with pytest.raises(ValueError, match="Frame: predictions must be of 5 points, got 2"):
        labels = PointLabels(torch.zeros(2, dtype=torch.int64), torch.ones(2))
        Frame.from_sample({"points": points}, classes=("a",), predictions=labels)
