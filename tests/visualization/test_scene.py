# SPDX-License-Identifier: Apache-2.0
"""The three-dimensional scene: its triangles, its picture without a display, its window under a virtual one."""

import math
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from pcperc.visualization import SceneError, SceneViewer, open3d_problem, render_scene
from pcperc.visualization.scene import EYE, FIELD_OF_VIEW_DEG, LOOK_AT, UP, look_at
from pcperc.visualization.scene_geometry import box_lines, frame_mesh, point_squares, tubes
from tests.visualization.conftest import detections

needs_open3d = pytest.mark.skipif(
    open3d_problem() is not None, reason="Open3D: it cannot be loaded here; make system-packages"
)
ROOT = Path(__file__).resolve().parents[2]


def volume(vertices: np.ndarray, triangles: np.ndarray) -> float:
    """Signed volume inside a closed surface; positive if all triangles face outwards."""
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    return float((np.cross(a, b) * c).sum() / 6)


def test_tubes_are_closed_and_of_the_right_size():
    rng = np.random.default_rng(0)
    starts, ends = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    ends[0] = starts[0] + [0, 0, 2]  # straight up
    width = rng.uniform(0.01, 0.2, 20)
    for i in range(20):
        vertices, triangles = tubes(starts[i : i + 1], ends[i : i + 1], width=width[i : i + 1])
        length = np.linalg.norm(ends[i] - starts[i]) + width[i]
        assert volume(vertices, triangles) == pytest.approx(width[i] ** 2 * length, rel=1e-6)
    vertices, triangles = tubes(starts, ends, width=width)
    assert vertices.shape == (160, 3) and triangles.max() == 159
    assert np.isfinite(tubes(starts, starts, width=width)[0]).all()


def test_box_lines_show_heading_and_motion():
    still = box_lines(np.array([0, 0, 0, 4, 2, 1, math.pi / 2, 0, 0], np.float32))
    moving = box_lines(np.array([0, 0, 0, 4, 2, 1, math.pi / 2, 3, 0], np.float32))
    unknown = box_lines(np.array([0, 0, 0, 4, 2, 1, 0, math.nan, math.nan], np.float32))
    assert len(still) == len(unknown) == 13 and len(moving) == 16
    assert max(end[1] for _, end in still) > 2.5  # the nose, beyond the front at y = 2
    np.testing.assert_allclose(moving[13][1] - moving[13][0], [3, 0, 0], atol=1e-6)


def test_squares_look_equally_large():
    camera = look_at((-10, 3, 5), (0, 0, 0), (0, 0, 1))
    points = np.array([[0.0, 0, 0], [30, 5, -2], [-20, 3, 5]])  # the last is behind
    vertices, triangles = point_squares(points, camera=camera, size=0.01)
    seen = (camera @ np.column_stack([vertices, np.ones(12)]).T)[:3].T.reshape(3, 4, 3)
    for corners in seen[:2]:
        projected = corners[:, :2] / corners[:, 2:]
        np.testing.assert_allclose(np.ptp(projected, axis=0), 0.01, rtol=1e-9)
    assert triangles.shape == (6, 3) and np.ptp(seen[2], axis=0).max() == 0


def test_look_at():
    matrix = look_at((0, 0, 0), (5, 0, 0), (0, 0, 1))  # along +x: right is -y, down is -z
    np.testing.assert_allclose(matrix[:3, :3], [[0, -1, 0], [0, 0, -1], [1, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(look_at(EYE, LOOK_AT, UP) @ [*EYE, 1], [0, 0, 0, 1], atol=1e-12)


def test_mesh_of_no_boxes(make_frame):
    vertices, triangles, colors = frame_mesh(make_frame())
    assert len(vertices) == len(triangles) == len(colors) == 0


def test_missing_open3d_is_said_in_one_line(monkeypatch, make_frame):
    monkeypatch.setitem(sys.modules, "open3d", None)
    problem = open3d_problem()
    assert "Open3D cannot be loaded" in problem and "make system-packages" in problem and "\n" not in problem
    with pytest.raises(SceneError, match="make system-packages"):
        render_scene(make_frame())


@needs_open3d
@pytest.mark.parametrize("display", [None, ":98765"])
def test_window_without_a_display_is_refused(make_frame, monkeypatch, display):
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    why = (
        rf"the display {display} \(\$DISPLAY\) does not" if display else r"there is no display \(\$DISPLAY is not set\)"
    )
    with pytest.raises(SceneError, match=f"a window cannot be opened: {why}.*; with --save DIR pictures are drawn"):
        SceneViewer([make_frame()])


@needs_open3d
def test_picture_without_a_display(make_frame, find, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    frame = make_frame(detections(("pedestrian", [10, 8, 1, 1, 1, 2, 0, 0, 0])), points=[[10, -8, 1, 9, 0]])
    picture = render_scene(frame, width=640, height=400)
    assert picture.shape[0] == 400 and picture.shape[1] > 640
    focal = 200 / math.tan(math.radians(FIELD_OF_VIEW_DEG) / 2)

    def pixel(place):
        x, y, z, _ = look_at(EYE, LOOK_AT, UP) @ [*place, 1]
        return np.array([319.5 + focal * x / z, 199.5 + focal * y / z])

    found = find(picture, "pedestrian", width=640)
    assert len(found) > 10
    assert np.abs(found - pixel([10, 8, 1])).max() < 22  # 2 m at some 40 m, nose included
    without = render_scene(make_frame(detections(("pedestrian", [10, 8, 1, 1, 1, 2, 0, 0, 0]))), width=640, height=400)
    changed = np.argwhere((picture != without).any(axis=2))[:, ::-1]
    np.testing.assert_allclose(changed.mean(axis=0), pixel([10, -8, 1]), atol=1)


@needs_open3d
def test_the_legend_counts_what_is_in_view(make_frame, monkeypatch):
    places = {"car": [10.0, 0, 1], "bus": [-40.0, 0, 1], "truck": [0.0, 80, 1]}  # in view, behind the eye, far aside
    truth = detections(*((name, [*place, 4, 2, 2, 0, 0, 0]) for name, place in places.items()))
    legends = []
    monkeypatch.setattr("pcperc.visualization.scene.beside_legend", lambda picture, frame, **_: legends.append(frame))
    render_scene(make_frame(truth), width=64, height=40)
    assert [legends[0].classes[label] for label in legends[0].truth.labels] == ["car"]


DRIVER = """
import sys, cv2, numpy as np
sys.path.insert(0, sys.argv[1])
from pcperc.geometry import Detections
from pcperc.visualization import CLASS_COLORS, Frame, SceneViewer

def frame(index):
    name = ("pedestrian", "bus", "car")[index]
    box = np.array([[5.0, 0, 1, 4, 2, 2, 0, 5, 0]], np.float32)
    truth = Detections(box, np.ones(1), np.array([list(CLASS_COLORS).index(name)]))
    points = np.random.default_rng(0).uniform(-30, 30, (200, 5)).astype(np.float32)
    return Frame(f"{name}-token", "scene-1", tuple(CLASS_COLORS), points, np.eye(4), truth)

def count(path, name):
    image = cv2.imread(str(path))[:, :640, ::-1].astype(int)
    return int((np.abs(image - CLASS_COLORS[name]).max(axis=2) < 30).sum())

folder = sys.argv[2]
viewer = SceneViewer([frame(i) for i in range(3)], screenshot_folder=folder, width=640, height=400)
assert viewer.index == 0
first = viewer.screenshot()
assert first.name == "scene_0000_pedestrian-t.png", first
assert count(first, "pedestrian") > 50 and count(first, "bus") == 0
viewer.next()
second = viewer.screenshot()
assert viewer.index == 1 and count(second, "bus") > 50 and count(second, "pedestrian") == 0
viewer.previous()
viewer.previous()
assert viewer.index == 2  # from the first to the last
third = viewer.screenshot(folder + "/third.png")
assert count(third, "car") > 50
viewer.toggle_truth()
assert count(viewer.screenshot(folder + "/hidden.png"), "car") == 0
viewer.change_colors()
assert viewer.color_by == "intensity"
if sys.argv[3]:
    import subprocess, time
    window = subprocess.check_output([sys.argv[3], "search", "--name", "^pcperc$"], text=True).split()[0]
    subprocess.check_call([sys.argv[3], "windowfocus", window])
    for key, expected in (("n", 0), ("Right", 1), ("p", 0), ("Left", 2)):
        subprocess.check_call([sys.argv[3], "key", key])
        deadline = time.monotonic() + 20
        while viewer.index != expected and time.monotonic() < deadline:
            viewer.refresh()
        assert viewer.index == expected, (key, viewer.index)
viewer.close()
print("driven")
"""


@needs_open3d
@pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="virtual display: xvfb-run is not installed")
def test_window_under_a_virtual_display(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(DRIVER))
    screen = ["xvfb-run", "-a", "-s", "-screen 0 1024x768x24"]
    arguments = [sys.executable, str(script), str(ROOT), str(tmp_path), shutil.which("xdotool") or ""]
    done = subprocess.run(screen + arguments, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "driven" in done.stdout, done.stdout + done.stderr
