# SPDX-License-Identifier: Apache-2.0
"""Shapes, rooms and frustums in an Open3D window, with the keys of `scene_viewer.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pcperc.geometry import BOX_EDGES, box_corners
from pcperc.visualization.clouds import (
    TILT_DEG,
    TURN_DEG,
    UP_AXES,
    Legend,
    Views,
    draw_legend,
    views_of_parts,
    views_of_room,
)
from pcperc.visualization.frame import origin_notes
from pcperc.visualization.frustums import OBJECT, OTHER, PREDICTED_BOX, TRUE_BOX, legend_of_frustum, sight
from pcperc.visualization.scene import import_open3d, look_at
from pcperc.visualization.scene_viewer import SceneViewer

DISTANCE = 2.0  # of the eye, in radii of the cloud
HELP = "N or right: next; P or left: previous; S: screenshot; C: truth, prediction, error or colour; Q: quit"


@dataclass(frozen=True)
class CloudFrame:
    """One cloud to look at.

    Attributes:
        name: of the cloud. xyz: (N, 3), the middle of the sight at the origin, its radius 1, z up.
        views: what the points can be coloured by: name to (N, 3) uint8. legend: what the colours stand for.
        boxes: corners (8, 3) in the frame of xyz, and their colour.
        tilt_deg: from how far above one looks.
        simulated, trained_on_simulated: whether the data, and what the network saw, are; screenshots say so.
    """

    name: str
    xyz: np.ndarray
    views: Views
    legend: Legend
    boxes: Sequence[tuple[np.ndarray, tuple[int, int, int]]] = field(default_factory=tuple)
    tilt_deg: float = TILT_DEG["z"]
    simulated: bool = False
    trained_on_simulated: bool = False

    @classmethod
    def of_parts(
        cls,
        points: np.ndarray,
        *,
        names: Mapping[int, str],
        truth: np.ndarray | None = None,
        predicted: np.ndarray | None = None,
        title: str = "",
        simulated: bool = False,
        trained_on_simulated: bool = False,
    ) -> CloudFrame:
        """Make one of what `draw_parts` takes."""
        views, legend = views_of_parts(points, names=names, truth=truth, predicted=predicted)
        xyz = _to_sight(points[:, UP_AXES["y"]], *_extent(points[:, UP_AXES["y"]]))
        origin = dict(simulated=simulated, trained_on_simulated=trained_on_simulated)
        return cls(title, xyz, views, legend, tilt_deg=TILT_DEG["y"], **origin)

    @classmethod
    def of_room(
        cls,
        points: np.ndarray,
        *,
        classes: Sequence[str],
        truth: np.ndarray | None = None,
        predicted: np.ndarray | None = None,
        title: str = "",
        simulated: bool = False,
        trained_on_simulated: bool = False,
    ) -> CloudFrame:
        """Make one of what `draw_room` takes."""
        views, legend, shown = views_of_room(points, classes=classes, truth=truth, predicted=predicted)
        xyz = _to_sight(points[shown, :3], *_extent(points[shown, :3]))
        views = {name: colors[shown] for name, colors in views.items()}
        origin = dict(simulated=simulated, trained_on_simulated=trained_on_simulated)
        return cls(title, xyz, views, legend, **origin)

    @classmethod
    def of_frustum(
        cls,
        points: np.ndarray,
        *,
        truth: np.ndarray | None = None,
        predicted: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        title: str = "",
        simulated: bool = False,
        trained_on_simulated: bool = False,
    ) -> CloudFrame:
        """Make one of what `draw_frustum` takes."""
        given = ((truth, TRUE_BOX), (predicted, PREDICTED_BOX))
        boxes = [(np.asarray(box, np.float64), color) for box, color in given if box is not None]
        around = sight(np.asarray(points[:, :3], np.float64), [box for box, _ in boxes])
        corners = [(_to_sight(box_corners(box[None])[0], *around), color) for box, color in boxes]
        taken = np.zeros(len(points), bool) if mask is None else np.asarray(mask, bool)
        colors = np.where(taken[:, None], np.array(OBJECT, np.uint8), np.array(OTHER, np.uint8))
        legend = legend_of_frustum(truth=truth, predicted=predicted, mask=mask)
        origin = dict(simulated=simulated, trained_on_simulated=trained_on_simulated)
        return cls(title, _to_sight(points[:, :3], *around), {"object": colors}, legend, corners, **origin)

    @property
    def file_name(self) -> str:
        """The name as part of a file's name."""
        return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in self.name)

    def title(self) -> str:
        """Return the cloud in one line."""
        return self.name


class CloudViewer(SceneViewer):
    """A window over a sequence of `CloudFrame`s, which shows one of their views.

    Arguments and errors: those of `SceneViewer`; ``color_by`` is the view that is shown where a frame has it.
    """

    frame: CloudFrame
    kind = "cloud"

    def change_colors(self) -> None:
        """Show the next view of the cloud."""
        views = list(self.frame.views)
        self.color_by = views[(views.index(self._view()) + 1) % len(views)]
        self._redraw()
        self.report(self.color_by)

    def _view(self) -> str:
        views = self.frame.views
        return self.color_by if self.color_by in views else next(iter(views))

    def _short_name(self) -> str:
        return self.frame.file_name

    def _with_legend(self, picture: np.ndarray) -> np.ndarray:
        frame = self.frame
        notes = origin_notes(simulated=frame.simulated, trained_on_simulated=frame.trained_on_simulated)
        panel = draw_legend(frame.legend, len(picture), notes=notes)
        return np.concatenate([picture, panel], axis=1)

    def _redraw(self, *, reset_view: bool = False) -> None:
        self._window.clear_geometries()
        o3d, frame = import_open3d(), self.frame
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(frame.xyz))
        cloud.colors = o3d.utility.Vector3dVector(frame.views[self._view()] / 255.0)
        for geometry in (cloud, *(_lines(*box) for box in frame.boxes)):
            self._window.add_geometry(geometry, reset_bounding_box=reset_view)
        if reset_view:
            self._reset_view()

    def _reset_view(self) -> None:
        control = self._window.get_view_control()
        camera = control.convert_to_pinhole_camera_parameters()
        turn, tilt = math.radians(TURN_DEG), math.radians(self.frame.tilt_deg)
        back = -math.cos(tilt) * math.cos(turn), -math.cos(tilt) * math.sin(turn), math.sin(tilt)
        camera.extrinsic = look_at([DISTANCE * value for value in back], (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))
        control.convert_from_pinhole_camera_parameters(camera, allow_arbitrary=True)


def _extent(xyz: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the middle of points and how far they reach from it."""
    if len(xyz) == 0:
        return np.zeros(3), 1.0
    middle = (xyz.min(0) + xyz.max(0)) / 2
    return middle, float(np.linalg.norm(xyz - middle, axis=1).max())


def _to_sight(xyz: np.ndarray, middle: np.ndarray, radius: float) -> np.ndarray:
    return (np.asarray(xyz, np.float64) - middle) / max(radius, 1e-9)


def _lines(corners: np.ndarray, color: tuple[int, int, int]) -> Any:
    o3d = import_open3d()
    edges = o3d.utility.Vector2iVector(np.array(BOX_EDGES, np.int32))
    lines = o3d.geometry.LineSet(o3d.utility.Vector3dVector(corners), edges)
    lines.paint_uniform_color([value / 255 for value in color])
    return lines
