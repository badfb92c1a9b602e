# SPDX-License-Identifier: Apache-2.0
"""Calorimeter events in an Open3D window, true beside predicted clusters, with the keys of `scene_viewer.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from pcperc.visualization.event_colors import COLORINGS, colors_of_hits
from pcperc.visualization.event_display import point_of_view, upright
from pcperc.visualization.event_frame import EventFrame
from pcperc.visualization.scene import import_open3d
from pcperc.visualization.scene_viewer import SceneViewer

APART = 620.0  # cm between the middles of the true and the predicted event
HELP = "N or right: next event; P or left: previous; S: screenshot; T: truth; D: prediction; C: colours; Q: quit"


class EventViewer(SceneViewer):
    """A window over a sequence of `EventFrame`s: the truth at its place, the prediction beside it.

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
        return picture

    def _redraw(self, *, reset_view: bool = False) -> None:
        self._window.clear_geometries()
        frame = self._visible_frame()
        for number, colors in enumerate(colors_of_hits(frame, by=self.color_by).values()):
            places = upright(frame.hits) + [0.0, -APART * number, 0.0]
            self._window.add_geometry(_cloud(places, colors), reset_bounding_box=reset_view)
        if reset_view:
            self._reset_view()

    def _reset_view(self) -> None:
        control = self._window.get_view_control()
        camera = control.convert_to_pinhole_camera_parameters()
        away = np.eye(4)
        away[2, 3] = 500.0  # further back, so that both events are in view
        camera.extrinsic = away @ point_of_view()
        control.convert_from_pinhole_camera_parameters(camera, allow_arbitrary=True)


def _cloud(places: np.ndarray, colors: np.ndarray) -> Any:
    o3d = import_open3d()
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(places))
    cloud.colors = o3d.utility.Vector3dVector(colors / 255.0)
    return cloud
