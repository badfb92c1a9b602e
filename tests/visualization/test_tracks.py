# SPDX-License-Identifier: Apache-2.0
"""Numbers and trails of tracks in the pictures, and scenes as animations."""

import numpy as np
import pytest
from PIL import Image

from pcperc.geometry import Tracks
from pcperc.visualization import draw_birds_eye, draw_camera_overlay, save_gif
from pcperc.visualization.scene_geometry import frame_mesh, number_lines
from tests.visualization.conftest import detections

CAR = [20.0, 0, 0, 4, 2, 2, 0, 0, 0]


def tracked(*rows, ids) -> Tracks:
    found = detections(*rows)
    return Tracks(found.boxes, found.scores, found.labels, np.array(ids))


def test_trail_is_drawn_where_the_track_was(make_frame, find):
    trail = np.array([[0.05, 30, 0], [0.05, 10, 0], [20, 0, 0]])
    frame = make_frame(predictions=tracked(("car", CAR), ids=[7]), trails={7: trail, 8: trail + 5})
    without = make_frame(predictions=tracked(("car", CAR), ids=[7]))
    new = find(draw_birds_eye(frame), "car", width=1080)
    old = find(draw_birds_eye(without), "car", width=1080)
    assert len(new) > len(old) + 100
    np.testing.assert_allclose(new[:, 0].min(), 539.5 - 300, atol=3)  # 30 m to the left, 10 pixels a metre
    assert old[:, 0].min() > 500
    assert not draw_birds_eye(frame.above(2.0)).tolist() == draw_birds_eye(frame).tolist()


def test_number_is_written_beside_the_box(make_frame):
    pictures = [draw_birds_eye(make_frame(predictions=tracked(("car", CAR), ids=[n]))) for n in (3, 8)]
    changed = np.argwhere((pictures[0] != pictures[1]).any(axis=2))
    assert len(changed) and np.abs(changed - [340, 555]).max() < 30


def test_number_is_written_on_the_image(make_frame):
    pictures = [draw_camera_overlay(make_frame(predictions=tracked(("car", CAR), ids=[n])), 0) for n in (3, 8)]
    changed = np.argwhere((pictures[0] != pictures[1]).any(axis=2))
    assert len(changed) and np.abs(changed - [75, 160]).max() < 25  # above the box, in the middle


def test_numbers_in_the_scene_are_lines(make_frame):
    place = np.array([20.0, 1, 3])
    lines = np.array(number_lines(1234567890, place))
    assert np.allclose(lines[..., 0], 20) and np.isclose(lines[..., 2].min(), 3) and np.isclose(lines[..., 2].max(), 4)
    # To the right of the place, for one who looks along +x; a 1, the first digit, is at the right of its cell.
    assert lines[..., 1].max() == 0.5 and lines[..., 1].min() < -6
    assert [len(number_lines(n, place)) for n in range(10)] == [6, 2, 5, 5, 4, 5, 6, 3, 7, 6]
    plain, numbered = (
        frame_mesh(make_frame(predictions=found))
        for found in (detections(("car", CAR)), tracked(("car", CAR), ids=[18]))
    )
    assert len(numbered[0]) - len(plain[0]) == 8 * (2 + 7)
    assert np.abs(numbered[0]).max() < 30


def test_gif(tmp_path):
    pictures = [np.full((20, 30, 3), 60 * i, np.uint8) for i in range(3)]
    path = save_gif(tmp_path / "out" / "scene.gif", iter(pictures), seconds_each=0.5)
    with Image.open(path) as image:
        assert (image.n_frames, image.size, image.info["duration"], image.info["loop"]) == (3, (30, 20), 500, 0)
        image.seek(2)
        np.testing.assert_allclose(np.asarray(image.convert("RGB")), 120, atol=2)
    with pytest.raises(ValueError, match="at least one entry"):
        save_gif(tmp_path / "none.gif", [])
    with pytest.raises(ValueError, match="must be of one size"):
        save_gif(tmp_path / "two.gif", [pictures[0], pictures[0][:5]])
    with pytest.raises(ValueError, match="must end in .gif"):
        save_gif(tmp_path / "scene.png", pictures)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
