# SPDX-License-Identifier: Apache-2.0
"""Pictures of parts, rooms and frustums: what is drawn where, and in which colour."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pcperc.datasets import KITTIObject
from pcperc.datasets.room_labels import S3DIS_CLASSES
from pcperc.geometry import IGNORED
from pcperc.visualization import (
    Frame,
    clouds,
    draw_camera_mosaic,
    draw_cloud,
    draw_frustum,
    draw_parts,
    draw_room,
    drawing,
    frustums,
    save_png,
)
from pcperc.visualization.clouds import views_of_parts
from pcperc.visualization.colors import (
    BACKGROUND,
    CLASS_COLORS,
    PART_COLORS,
    ROOM_COLORS,
    SEGMENT_COLORS,
    SIMULATED,
    class_color,
)
from pcperc.visualization.frame import TRAINED_ON_SIMULATED
from pcperc.visualization.frustums import HEAD, OBJECT, PREDICTED_BOX, TRUE_BOX
from pcperc.visualization.point_colors import RIGHT, UNSCORED, WRONG
from tests import kitti_root
from tests.visualization.color_distance import color_distance

RED, GREEN = (255, 0, 0), (0, 255, 0)


def like(picture: np.ndarray, color, tolerance: int = 12) -> np.ndarray:
    """(H, W) bool: pixels of a colour, however dark its distance makes them."""
    level = picture.max(axis=-1).astype(float) / max(color)
    near = np.abs(picture - level[..., None] * np.array(color, float)).max(axis=-1) < tolerance
    return near & (level > 0.5)


def test_near_points_hide_far_ones_and_up_is_up():
    # Two points in one line of sight, and one above them; looked at along +x.
    xyz = np.array([[0.0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]])
    colors = np.array([RED, GREEN, (0, 0, 255), (255, 255, 0)], np.uint8)
    for up, order in (("z", [0, 1, 2]), ("y", [1, 2, 0])):
        picture = draw_cloud(xyz[:, order], colors, size=100, up=up, turn_deg=0.0, tilt_deg=0.0)
        assert like(picture, RED).any() and not like(picture, GREEN).any()
        (above,), (front,) = (np.unique(np.argwhere(like(picture, c)).mean(0).round()[:1]) for c in ((0, 0, 255), RED))
        assert above < 10 and front > 90
        left, middle = (np.argwhere(like(picture, c))[:, 1].mean() for c in ((255, 255, 0), RED))
        assert left < middle


def test_nothing_one_point_and_points_that_are_not_finite():
    empty = draw_cloud(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), size=40)
    assert (empty == BACKGROUND).all()
    one = draw_cloud(np.full((5, 3), 7.0), np.tile(RED, (5, 1)), size=41)
    assert like(one[18:23, 18:23], RED).any()
    xyz = np.array([[np.nan, 0, 0], [0, 0, 0]])
    assert not like(draw_cloud(xyz, np.array([GREEN, RED]), size=40), GREEN).any()
    with pytest.raises(ValueError, match=r"xyz and colors must be \(N, 3\)"):
        draw_cloud(np.zeros((3, 2)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="up must be one of y, z, got 'x'"):
        draw_cloud(np.zeros((3, 3)), np.zeros((3, 3)), up="x")


def test_parts_in_three_views():
    rng = np.random.default_rng(0)
    points, truth = rng.uniform(-0.5, 0.5, (300, 6)), np.repeat([36, 37], 150)
    said = truth.copy()
    said[:40] = 37
    names = {36: "handle", 37: "cup"}
    picture = draw_parts(points, names=names, truth=truth, predicted=said, title="mug", simulated=True, size=200)
    assert picture.shape[0] == 246 and picture.dtype == np.uint8
    views = [picture[46:, 200 * k : 200 * (k + 1)] for k in range(3)]
    counts = [[int(like(view, color).sum()) for color in (*PART_COLORS[:2], RIGHT, WRONG)] for view in views]
    assert counts[0][0] > counts[1][0] > 0 and counts[1][1] > counts[0][1] > 0
    assert counts[2][2] > counts[2][3] > 0 and counts[0][3] == 0
    assert (picture == SIMULATED).all(-1).any()
    alone = draw_parts(points, names=names, predicted=said, size=200)
    assert alone.shape[1] == picture.shape[1] - 400 and not (alone == SIMULATED).all(-1).any()
    with pytest.raises(ValueError, match="truth or predicted must be given"):
        draw_parts(points, names=names)
    with pytest.raises(ValueError, match=r"predicted must be \(300,\), one a point, got \(2,\)"):
        draw_parts(points, names=names, predicted=np.zeros(2))


def test_errors_are_in_no_colour_of_what_they_are_drawn_beside():
    """By CIELAB, at every brightness that distance gives: wrong from all parts, right from what is not scored."""
    for level in (0.65, 1.0):
        shown = {name: level * np.array(color) for name, color in (("right", RIGHT), ("wrong", WRONG))}
        for other in (0.65, 1.0):
            parts = [other * np.array(color) for color in PART_COLORS]
            assert min(color_distance(shown["wrong"], color) for color in parts) > 30
            assert min(color_distance(shown["right"], color) for color in parts) > 20
            assert color_distance(shown["wrong"], other * np.array(RIGHT)) > 50
            assert color_distance(shown["right"], other * np.array(UNSCORED)) > 10
    assert min(color_distance(WRONG, color) for color in PART_COLORS) > 50
    classes = {*ROOM_COLORS.values(), *SEGMENT_COLORS.values(), *CLASS_COLORS.values()}
    assert min(color_distance(WRONG, color) for color in classes) > 20
    points, truth = np.zeros((3, 3)), np.array([0, 0, IGNORED])
    told = dict(names={0: "a", 1: "b"}, truth=truth, predicted=np.array([0, 1, 0]))
    views, legend = views_of_parts(points, **told)
    meanings = [f"error: {name}" for name in ("right", "wrong", "not scored")]
    assert views["error"].tolist() == [list(legend[name]) for name in meanings]
    assert list(legend) == ["a", "b", *meanings]


def test_rooms_are_drawn_without_their_ceiling():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(0, 3, (400, 3)), np.tile([1.0, 0.0, 0.0], (400, 1))], 1)
    truth = np.repeat([0, 1, 8, 255], 100)  # ceiling, floor, chair, none
    picture = draw_room(points, classes=S3DIS_CLASSES, truth=truth, predicted=truth, size=150)
    colour, by_class = picture[46:, :150], picture[46:, 150:300]
    assert like(colour, RED).any()
    assert like(by_class, class_color("chair")).any() and like(by_class, class_color("floor")).any()
    assert not like(by_class, class_color("ceiling"), tolerance=4).any()
    assert picture.shape[1] == 4 * 150 + 170
    assert draw_room(points[:, :3], classes=S3DIS_CLASSES, truth=truth, size=150).shape[1] == 150 + 170


def written(monkeypatch):
    """Return a list that gets all texts that would be drawn, and their colours."""
    texts = []
    for module in (clouds, drawing, frustums):
        keep = lambda image, text, place, color=None, **_: texts.append((text, color, tuple(place)))  # noqa: E731
        monkeypatch.setattr(module, "draw_text", keep)
    return texts


def test_the_legend_of_a_room_says_what_is_not_drawn(monkeypatch):
    texts, points = written(monkeypatch), np.random.default_rng(0).uniform(0, 3, (4, 3))
    for truth, predicted, expected in (
        ([0, 1, 8, 8], None, ["ceiling (not drawn)", "floor", "chair"]),
        ([0, 1, 8, 8], [7, 1, 8, 8], ["ceiling (not drawn)", "floor", "chair"]),  # the table is not drawn either
        ([0, 1, 8, 8], [0, 0, 8, 8], ["ceiling (true: not drawn)", "floor", "chair"]),
        ([1, 1, 8, 8], [0, 1, 8, 8], ["ceiling", "floor", "chair"]),
        ([0, 0, 0, 0], None, ["ceiling (not drawn)"]),
    ):
        texts.clear()
        draw_room(points, classes=S3DIS_CLASSES, truth=np.array(truth), predicted=predicted and np.array(predicted))
        names = [text for text, *_ in texts if text.split(" (")[0] in S3DIS_CLASSES]
        assert names == expected


def test_pictures_say_of_whose_data_the_network_was(monkeypatch):
    points, said = np.zeros((3, 3)), np.zeros(3, np.int64)
    for simulated in (False, True):
        told = dict(simulated=simulated, trained_on_simulated=True)
        for picture in (
            draw_parts(points, names={0: "a"}, predicted=said, **told),
            draw_room(points, classes=("a",), predicted=said, **told),
            draw_frustum(points, predicted=np.array([0.0, 0, 0, 4, 2, 1.5, 0]), **told),
        ):
            assert (picture == SIMULATED).all(-1).any()
    texts = written(monkeypatch)
    draw_parts(points, names={0: "a"}, predicted=said, trained_on_simulated=True)
    lines = [text for text, color, _ in texts if color == SIMULATED]
    assert " ".join(lines) == TRAINED_ON_SIMULATED and len(lines) > 1  # in the width of the legend
    assert max(cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0] for line in lines) <= 150
    texts.clear()
    frame = Frame("token", "scene", ("car",), np.zeros((1, 5)), np.eye(4), trained_on_simulated=True)
    assert frame.notes() == []  # it has no predictions
    for found in ("predictions", "predicted_labels", "predicted_map"):
        assert replace(frame, **{found: ()}).notes() == [TRAINED_ON_SIMULATED]
    drawing.legend(replace(frame, predicted_labels=np.zeros(1, np.int64)), height=300)
    assert " ".join(text for text, color, _ in texts if color == SIMULATED) == TRAINED_ON_SIMULATED


def test_a_frustum_has_a_scale_in_metres_and_says_whose_object_it_is(monkeypatch):
    texts = written(monkeypatch)
    box, mask = np.array([20.0, 1.0, 0.5, 4, 2, 1.5, 0]), np.array([True])
    draw_frustum(box[None], truth=box, predicted=box, mask=mask, extent=5.0, size=400)  # 40 pixels a metre
    entries = {text: color for text, color, _ in texts}
    assert entries["points of the predicted object"] == OBJECT and "points of the true object" not in entries
    assert entries["truth (box)"] == TRUE_BOX and entries["prediction (box)"] == PREDICTED_BOX
    names = {"left (m)", "ahead (m)", "up (m)"}
    assert names < {*entries}
    ticks = [(float(text), place) for text, _, place in texts if text.lstrip("-").replace(".", "").isdigit()]
    first = next(k for k in range(1, len(ticks)) if ticks[k][0] == 16 and ticks[k][1][1] > 390)  # of the second view
    for view, ((across, sign), (up, height)) in zip(
        (ticks[:first], ticks[first:]), (((1.0, -1), (20.0, 1)), ((20.0, 1), (0.5, 1))), strict=True
    ):
        bottom = {value: u for value, (u, v) in view if v > 390}
        left = {value: v for value, (u, v) in view if u < 5}
        assert len(bottom) > 5 and len(left) > 5
        for value, u in bottom.items():
            assert u == pytest.approx(199.5 + sign * (value - across) * 40 + 3)
        for value, v in left.items():
            assert v == pytest.approx(199.5 - height * (value - up) * 40 - 3, abs=1)
    texts.clear()
    draw_frustum(box[None], truth=box, mask=mask)
    assert "points of the true object" in [text for text, *_ in texts]


def test_a_frustum_and_its_boxes():
    truth = np.array([20.0, 0, 0, 4, 2, 1.5, 0])
    estimate = np.array([21.0, 0.5, 0, 4, 2, 1.5, 0.3])
    points = np.array([[18.7, -0.5, 0], [20, 4, 0], [20, 0, 4], [500, 0, 0]])
    picture = draw_frustum(points, truth=truth, predicted=estimate, mask=np.array([1, 0, 0, 0]), extent=10.0, size=200)
    above, side = picture[HEAD:, :200], picture[HEAD:, 200:]
    for view in (above, side):
        assert like(view, TRUE_BOX, tolerance=40).any() and like(view, PREDICTED_BOX, tolerance=40).any()
    # 10 pixels a metre; from above the box is 20 wide and 40 high around the middle, from the side 40 and 15.
    spots = np.argwhere(like(above, TRUE_BOX, tolerance=8))
    assert spots.min(0) == pytest.approx([80, 90], abs=2) and spots.max(0) == pytest.approx([120, 110], abs=2)
    assert (above[100, 60] != BACKGROUND).any()  # the point 4 m to the left
    assert (side[60, 100] != BACKGROUND).any()  # the one 4 m above
    assert (above == OBJECT).all(-1).sum() > 0
    for cloud in (np.zeros((0, 4)), points):
        assert draw_frustum(cloud, simulated=True, size=100).shape == (HEAD + 100, 200, 3)
    with pytest.raises(ValueError, match=r"mask must be \(4,\), one a point, got \(3,\)"):
        draw_frustum(points, mask=np.zeros(3))
    with pytest.raises(ValueError, match=r"boxes must be \(7,\), got \(9,\)"):
        draw_frustum(points, truth=np.zeros(9))


def test_a_kitti_frame_with_boxes_on_its_image(tmp_path):
    data = KITTIObject(root=kitti_root.write_root(tmp_path / "kitti"), split="sim_val", with_image=True)
    frame = Frame.from_sample(data[0], classes=data.classes, simulated=True)
    picture = draw_camera_mosaic(frame, tile_width=400)
    car = np.argwhere(like(picture[:, :400], class_color("Car"), tolerance=30))
    left, top, right, bottom = data[0]["objects"].boxes_2d[0]
    assert car.min(0) == pytest.approx([top, left], abs=3) and car.max(0) == pytest.approx([bottom, right], abs=3)
    assert class_color("Car") == class_color("car")
    save_png(tmp_path / "frame.png", picture)
