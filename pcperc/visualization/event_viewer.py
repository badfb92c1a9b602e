# SPDX-License-Identifier: Apache-2.0
"""Calorimeter events in an Open3D window, true beside predicted clusters, with the keys of `scene_viewer.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from pcperc.visualization.event_colors import COLORINGS, colors_of_hits
from pcperc.visualization.event_display import point_of_view, upright
from pcperc.visualization.event_frame import EventFrame
from pcperc.visualization.event_legend import draw_legend_panel
from pcperc.visualization.scene import import_open3d
from pcperc.visualization.scene_viewer import SceneViewer

APART = 620.0  # cm between the middles of neighbouring endcaps, of the true and of the predicted event
HELP = "N or right: next event; P or left: previous; S: screenshot; T: truth; D: prediction; C: colours; Q: quit"


class EventViewer(SceneViewer):
    """A window over a sequence of `EventFrame`s: the true endcap, or both, and the predicted ones beside them.

    Arguments and errors: those of `SceneViewer`; ``color_by`` is "cluster" or "class".
    """

    frame: EventFrame
    kind = "event"

    def change_colors(self) -> None:
        """Colour the hits by cluster or by class."""
        self.color_by = COLORINGS[(COLORINGS.index(self.color_by) + 1) % len(COLORINGS)]
        self._redraw()

    def _short_name(self) -> str:
        return self.frame.file_name

    def _with_legend(self, picture: np.ndarray) -> np.ndarray:
        frame = self._visible_frame()
        shown = [f"{kind} {name}" for kind, _ in frame.layers() for name, _ in frame.endcaps()]
        panel = draw_legend_panel(frame, len(picture), color_by=self.color_by, shown=shown)
        return np.concatenate([picture, panel], axis=1)

    def _redraw(self, *, reset_view: bool = False) -> None:
        self._window.clear_geometries()
        frame = self._visible_frame()
        places, endcaps = upright(frame.hits), frame.endcaps()
        for layer, colors in enumerate(colors_of_hits(frame, by=self.color_by).values()):
            for number, (_, rows) in enumerate(endcaps, layer * len(endcaps)):
                aside = [0.0, -APART * number, 0.0]
                self._window.add_geometry(_cloud(places[rows] + aside, colors[rows]), reset_bounding_box=reset_view)
        if reset_view:
            self._reset_view()

    def _reset_view(self) -> None:
        count = len(self.frame.layers()) * len(self.frame.endcaps())
        control = self._window.get_view_control()
        camera = control.convert_to_pinhole_camera_parameters()
        middle, away = np.eye(4), np.eye(4)
        middle[1, 3] = APART * (count - 1) / 2
        away[2, 3] = 500.0 + 400.0 * max(count - 2, 0)  # further back, so that all are in view
        camera.extrinsic = away @ point_of_view() @ middle
        control.convert_from_pinhole_camera_parameters(camera, allow_arbitrary=True)


def _cloud(places: np.ndarray, colors: np.ndarray) -> Any:
    o3d = import_open3d()
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(places))
    cloud.colors = o3d.utility.Vector3dVector(colors / 255.0)
    return cloud
