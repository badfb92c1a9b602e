# SPDX-License-Identifier: Apache-2.0
"""The scene of `scene.py` in a window, with keys."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pcperc.visualization.colors import BACKGROUND
from pcperc.visualization.drawing import beside_legend, save_png
from pcperc.visualization.frame import Frame
from pcperc.visualization.point_colors import colorings, colors_of_points
from pcperc.visualization.scene import (
    EYE,
    LOOK_AT,
    POINT_SIZE,
    UP,
    WITHOUT_DISPLAY,
    Mesh,
    SceneError,
    display_problem,
    import_open3d,
    joined,
    look_at,
    open3d_problem,
    scene_lines,
)

logger = logging.getLogger(__name__)

KEYS = {
    "next": ("N", 262),  # the letter, and GLFW's number of a second key: the right arrow
    "previous": ("P", 263),  # the left arrow
    "screenshot": ("S", None),
    "toggle_truth": ("T", None),
    "toggle_predictions": ("D", None),
    "change_colors": ("C", None),
}
HELP = "N or right: next frame; P or left: previous; S: screenshot; T: truth; D: detections; C: colours; Q: quit"


class SceneViewer:
    """An interactive window over a sequence of frames. Everything a key does is a method too.

    Args:
        frames: Frames by index; made one at a time, when they are shown.
        screenshot_folder: where screenshots go whose name is not given.
        width, height: of the window in pixels.
        color_by: one of `pcperc.visualization.colorings` of every frame.
        report: told in a line what is shown and saved.
    Raises:
        ValueError: there is no frame.
        SceneError: Open3D cannot be loaded, or there is no display.
    """

    kind = "scene"  # with which names of screenshots begin

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
        self._window = import_open3d().visualization.VisualizerWithKeyCallback()
        if not self._window.create_window(window_name="pcperc", width=width, height=height):
            raise SceneError(f"a window cannot be opened; {WITHOUT_DISPLAY}")
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
        """Colour the points by the next quantity: height, intensity, class, ... as far as the frame has them."""
        known = colorings(self.frame)
        self.color_by = known[(known.index(self.color_by) + 1) % len(known)]
        self._redraw()

    def screenshot(self, path: str | Path | None = None) -> Path:
        """Save what the window shows, with its legend where it has one; return the file's path.

        Args:
            path: None makes a name of the frame's number and sample in ``screenshot_folder``.
        """
        if path is None:
            path = self.screenshot_folder / f"{self.kind}_{self.index:04d}_{self._short_name()}.png"
        self.refresh()
        picture = np.asarray(self._window.capture_screen_float_buffer(do_render=True))
        saved = save_png(path, self._with_legend(np.rint(picture * 255).astype(np.uint8)))
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

    def _short_name(self) -> str:
        return self.frame.file_name[:12]

    def _with_legend(self, picture: np.ndarray) -> np.ndarray:
        return beside_legend(picture, self._visible_frame(), color_by=self.color_by)

    def _visible_frame(self) -> Frame:
        return replace(self.frame, **dict.fromkeys(self._hidden))

    def _redraw(self, *, reset_view: bool = False) -> None:
        self._window.clear_geometries()
        for geometry in (_cloud(self.frame, self.color_by), _mesh(scene_lines(self._visible_frame()))):
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


def _mesh(*parts: Mesh) -> Any:
    """Return Open3D's mesh of some meshes."""
    o3d = import_open3d()
    vertices, triangles, colors = joined(*parts)
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices.astype(np.float64)), o3d.utility.Vector3iVector(triangles.astype(np.int32))
    )
    mesh.vertex_colors = o3d.utility.Vector3dVector(colors)
    return mesh


def _cloud(frame: Frame, color_by: str) -> Any:
    """Return Open3D's point cloud of a frame, in the ego frame."""
    o3d = import_open3d()
    points = frame.points_in_ego()
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points[:, :3].astype(np.float64)))
    cloud.colors = o3d.utility.Vector3dVector(colors_of_points(frame, by=color_by) / 255.0)
    return cloud
