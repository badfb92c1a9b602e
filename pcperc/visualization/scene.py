# SPDX-License-Identifier: Apache-2.0
"""The scene in three dimensions with Open3D: an interactive window, and pictures without any display."""

import ctypes
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pcperc.visualization.colors import BACKGROUND, POINT_COLORINGS, point_colors
from pcperc.visualization.drawing import beside_legend, save_png
from pcperc.visualization.frame import Frame
from pcperc.visualization.scene_geometry import frame_mesh, ground_rings, point_squares

logger = logging.getLogger(__name__)

# Behind and above the vehicle, looking ahead (ego frame, metres).
EYE, LOOK_AT, UP = (-26.0, 0.0, 20.0), (12.0, 0.0, 0.0), (0.0, 0.0, 1.0)
FIELD_OF_VIEW_DEG = 60.0
POINT_SIZE = 2.0  # pixels
KEYS = {
    "next": ("N", 262),  # the letter, and GLFW's number of a second key: the right arrow
    "previous": ("P", 263),  # the left arrow
    "screenshot": ("S", None),
    "toggle_truth": ("T", None),
    "toggle_predictions": ("D", None),
    "change_colors": ("C", None),
}
HELP = "N or right: next frame; P or left: previous; S: screenshot; T: truth; D: detections; C: colours; Q: quit"
Mesh = tuple[np.ndarray, np.ndarray, np.ndarray]  # vertices (N, 3), triangles (T, 3), colours (N, 3) in 0..1
ADVICE = "make system-packages installs what Open3D needs"


class SceneError(RuntimeError):
    """Open3D cannot draw or show a scene here; the message says why and what helps."""


def open3d_problem() -> str | None:
    """Return why Open3D cannot be used at all, in one line that names the remedy, or None."""
    try:
        _open3d()
    except (ImportError, OSError) as error:
        return f"Open3D cannot be loaded ({str(error).splitlines()[0]}); {ADVICE}"
    return None


def display_problem() -> str | None:
    """Return why no window can be opened, in one line, or None. Open3D itself would draw into a window nobody sees."""
    if not sys.platform.startswith("linux") or os.environ.get("WAYLAND_DISPLAY"):
        return None
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError as error:
        return f"a window cannot be opened ({error}); {ADVICE}"
    x11.XOpenDisplay.restype = ctypes.c_void_p
    display = x11.XOpenDisplay(None)
    if not display:
        name = os.environ.get("DISPLAY")
        return f"a window cannot be opened, {name or '$DISPLAY'} is not a display; --save DIR draws without one"
    x11.XCloseDisplay(ctypes.c_void_p(display))
    return None


def render_scene(frame: Frame, *, width: int = 1280, height: int = 800, color_by: str = "height") -> np.ndarray:
    """Draw the scene without a display, seen from behind and above the vehicle, with a legend.

    Open3D casts rays on the CPU (Embree), four a pixel: 0.4 s on two cores, colours as in the legend, no graphics
    driver. Its other off-screen renderer, Filament, took Mesa's software driver between 1 s and more than a minute for
    the same scene.

    Args:
        frame: what to draw.
        width, height: of the picture without the legend, pixels.
        color_by: "height" or "intensity".
    Returns:
        (height, width + legend, 3) uint8 RGB.
    Raises:
        SceneError: Open3D cannot be loaded; the message is that of `open3d_problem`.
    """
    problem = open3d_problem()
    if problem:
        raise SceneError(problem)
    camera = look_at(EYE, LOOK_AT, UP)
    focal = height / 2 / np.tan(np.radians(FIELD_OF_VIEW_DEG) / 2)
    points = frame.points_in_ego()
    vertices, triangles = point_squares(points[:, :3], camera=camera, size=POINT_SIZE / focal)
    squares = vertices, triangles, np.repeat(point_colors(points, by=color_by) / 255.0, 4, axis=0)
    intrinsics = np.array([[2 * focal, 0, width - 0.5], [0, 2 * focal, height - 0.5], [0, 0, 1]])
    picture = _cast_rays(_joined(_lines(frame), squares), intrinsics, camera, size=(2 * width, 2 * height))
    return beside_legend(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), frame)


def _cast_rays(mesh: Mesh, intrinsics: np.ndarray, camera: np.ndarray, *, size: tuple[int, int]) -> np.ndarray:
    """Return the picture of a mesh, (height, width, 3) uint8, each triangle in the colour of its first vertex."""
    o3d = _open3d()
    vertices, triangles, colors = mesh
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor(vertices.astype(np.float32)), o3d.core.Tensor(triangles.astype(np.uint32)))
    rays = scene.create_rays_pinhole(o3d.core.Tensor(intrinsics), o3d.core.Tensor(camera), *size)
    hit = scene.cast_rays(rays)["primitive_ids"].numpy()
    palette = np.concatenate([np.rint(colors[triangles[:, 0]] * 255), [BACKGROUND]]).astype(np.uint8)
    return palette[np.where(hit == scene.INVALID_ID, len(triangles), hit)]


class SceneViewer:
    """An interactive window over a sequence of frames. Everything a key does is a method too.

    Args:
        frames: Frames by index; made one at a time, when they are shown.
        screenshot_folder: where screenshots go whose name is not given.
        width, height: of the window in pixels.
        color_by: "height" or "intensity".
        report: told in a line what is shown and saved.
    Raises:
        ValueError: there is no frame.
        SceneError: Open3D cannot be loaded, or there is no display.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        *,
        screenshot_folder: str | Path = ".",
        width: int = 1280,
        height: int = 800,
        color_by: str = "height",
        report: Callable[[str], None] = logger.info,
    ) -> None:
        if len(frames) == 0:
            raise ValueError("SceneViewer: frames must have at least one entry, got none")
        problem = open3d_problem() or display_problem()
        if problem:
            raise SceneError(problem)
        self.frames = frames
        self.screenshot_folder = Path(screenshot_folder)
        self.color_by = color_by
        self.report = report
        self.index = 0
        self._hidden: set[str] = set()
        self._window = _open3d().visualization.VisualizerWithKeyCallback()
        if not self._window.create_window(window_name="pcperc", width=width, height=height):
            raise SceneError("a window cannot be opened; --save DIR draws without one")
        options = self._window.get_render_option()
        options.background_color = np.array(BACKGROUND) / 255
        options.light_on = False
        options.point_size = POINT_SIZE
        for action, keys in KEYS.items():
            for key in keys:
                if key is not None:
                    number = ord(key) if isinstance(key, str) else key
                    self._window.register_key_callback(number, self._callback(getattr(self, action)))
        self.show(0)

    @property
    def frame(self) -> Frame:
        """The frame that is shown."""
        return self._frame

    def show(self, index: int) -> None:
        """Show a frame; after the last comes the first. The point of view stays."""
        first = not hasattr(self, "_frame")
        self.index = index % len(self.frames)
        self._frame = self.frames[self.index]
        self._redraw(reset_view=first)
        self.report(f"frame {self.index + 1} of {len(self.frames)}: {self._frame.title()}")

    def next(self) -> None:
        """Show the next frame."""
        self.show(self.index + 1)

    def previous(self) -> None:
        """Show the previous frame."""
        self.show(self.index - 1)

    def toggle_truth(self) -> None:
        """Hide or show the annotated boxes."""
        self._hidden ^= {"truth"}
        self._redraw()

    def toggle_predictions(self) -> None:
        """Hide or show the predicted boxes."""
        self._hidden ^= {"predictions"}
        self._redraw()

    def change_colors(self) -> None:
        """Colour the points by the next quantity: height, intensity."""
        self.color_by = POINT_COLORINGS[(POINT_COLORINGS.index(self.color_by) + 1) % len(POINT_COLORINGS)]
        self._redraw()

    def screenshot(self, path: str | Path | None = None) -> Path:
        """Save what the window shows beside a legend; return the file's path.

        Args:
            path: None makes a name of the frame's number and sample in ``screenshot_folder``.
        """
        if path is None:
            path = self.screenshot_folder / f"scene_{self.index:04d}_{self.frame.token[:12]}.png"
        self.refresh()
        picture = np.asarray(self._window.capture_screen_float_buffer(do_render=True))
        picture = np.rint(picture * 255).astype(np.uint8)
        saved = save_png(path, beside_legend(picture, self._visible_frame()))
        self.report(f"saved {saved}")
        return saved

    def refresh(self) -> bool:
        """Handle waiting keys and draw; return False once the window is to be closed."""
        alive = self._window.poll_events()
        self._window.update_renderer()
        return alive

    def run(self) -> None:
        """Show the window until the user closes it."""
        self._window.run()
        self.close()

    def close(self) -> None:
        """Close the window."""
        self._window.destroy_window()

    def _visible_frame(self) -> Frame:
        return replace(self.frame, **dict.fromkeys(self._hidden))

    def _redraw(self, *, reset_view: bool = False) -> None:
        self._window.clear_geometries()
        for geometry in (_cloud(self.frame, self.color_by), _mesh(_lines(self._visible_frame()))):
            self._window.add_geometry(geometry, reset_bounding_box=reset_view)
        if reset_view:
            self._reset_view()

    def _reset_view(self) -> None:
        control = self._window.get_view_control()
        camera = control.convert_to_pinhole_camera_parameters()
        camera.extrinsic = look_at(EYE, LOOK_AT, UP)
        control.convert_from_pinhole_camera_parameters(camera, allow_arbitrary=True)

    @staticmethod
    def _callback(action: Any) -> Any:
        def call(_window: Any) -> bool:
            action()
            return True

        return call


def look_at(eye: Sequence[float], target: Sequence[float], up: Sequence[float]) -> np.ndarray:
    """Return the (4, 4) matrix from the world to a camera (x right, y down, z forward) that looks at ``target``."""
    eye, target, up = (np.asarray(v, np.float64) for v in (eye, target, up))
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    matrix[:3, 3] = -matrix[:3, :3] @ eye
    return matrix


def _lines(frame: Frame) -> Mesh:
    """Return rings and boxes as one mesh in the ego frame."""
    return _joined(ground_rings(), frame_mesh(frame))


def _joined(*parts: Mesh) -> Mesh:
    offsets = np.cumsum([0, *(len(vertices) for vertices, _, _ in parts)])
    triangles = [part[1] + offset for part, offset in zip(parts, offsets, strict=False)]
    return np.concatenate([p[0] for p in parts]), np.concatenate(triangles), np.concatenate([p[2] for p in parts])


def _mesh(*parts: Mesh) -> Any:
    """Return Open3D's mesh of some meshes."""
    o3d = _open3d()
    vertices, triangles, colors = _joined(*parts)
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices.astype(np.float64)), o3d.utility.Vector3iVector(triangles.astype(np.int32))
    )
    mesh.vertex_colors = o3d.utility.Vector3dVector(colors)
    return mesh


def _cloud(frame: Frame, color_by: str) -> Any:
    """Return Open3D's point cloud of a frame, in the ego frame."""
    o3d = _open3d()
    points = frame.points_in_ego()
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points[:, :3].astype(np.float64)))
    cloud.colors = o3d.utility.Vector3dVector(point_colors(points, by=color_by) / 255.0)
    return cloud


def _open3d() -> Any:
    """Import Open3D when it is needed: it takes a second, and pictures that do not use it go without."""
    import open3d

    return open3d
