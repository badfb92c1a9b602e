# SPDX-License-Identifier: Apache-2.0
"""The scene in three dimensions with Open3D: pictures without any display, and what the interactive window shares."""

import ctypes
import os
import sys
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from pcperc.geometry import box_corners
from pcperc.visualization.colors import BACKGROUND
from pcperc.visualization.drawing import beside_legend
from pcperc.visualization.frame import Frame
from pcperc.visualization.point_colors import colors_of_points
from pcperc.visualization.scene_geometry import frame_mesh, ground_rings, point_squares

# Behind and above the vehicle, looking ahead (ego frame, metres).
EYE, LOOK_AT, UP = (-26.0, 0.0, 20.0), (12.0, 0.0, 0.0), (0.0, 0.0, 1.0)
FIELD_OF_VIEW_DEG = 60.0
POINT_SIZE = 2.0  # pixels
Mesh = tuple[np.ndarray, np.ndarray, np.ndarray]  # vertices (N, 3), triangles (T, 3), colours (N, 3) in 0..1
ADVICE = "make system-packages installs what Open3D needs"
WITHOUT_DISPLAY = "with --save DIR pictures are drawn into a folder instead, without a display"


class SceneError(RuntimeError):
    """Open3D cannot draw or show a scene here; the message says why and what helps."""


def open3d_problem() -> str | None:
    """Return why Open3D cannot be used at all, in one line that names the remedy, or None."""
    try:
        import_open3d()
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
        why = f"the display {name} ($DISPLAY) does not answer" if name else "there is no display ($DISPLAY is not set)"
        return f"a window cannot be opened: {why}; {WITHOUT_DISPLAY}"
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
        color_by: one of `pcperc.visualization.colorings`.
    Returns:
        (height, width + legend, 3) uint8 RGB. The legend counts the boxes in view, also those behind others.
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
    squares = vertices, triangles, np.repeat(colors_of_points(frame, by=color_by) / 255.0, 4, axis=0)
    intrinsics = np.array([[2 * focal, 0, width - 0.5], [0, 2 * focal, height - 0.5], [0, 0, 1]])
    picture = cast_rays(joined(scene_lines(frame), squares), intrinsics, camera, size=(2 * width, 2 * height))
    picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    pinhole = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]) @ camera[:3]
    in_view = {kind: _in_view(frame.boxes_in_ego(boxes), pinhole, width, height) for kind, boxes in frame.layers()}
    return beside_legend(picture, frame.keep(in_view), color_by=color_by)


def _in_view(boxes: np.ndarray, pinhole: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return (K,) bool: whether a corner of a box is in the picture of a (3, 4) ``pinhole`` camera."""
    corners = box_corners(boxes) @ pinhole[:, :3].T + pinhole[:, 3]
    depth = corners[..., 2]
    inside = (corners[..., :2] > 0) & (corners[..., :2] < depth[..., None] * [width, height])
    return (inside.all(axis=-1) & (depth > 0)).any(axis=1)


def cast_rays(mesh: Mesh, intrinsics: np.ndarray, camera: np.ndarray, *, size: tuple[int, int]) -> np.ndarray:
    """Return the picture of a mesh, (height, width, 3) uint8, each triangle in the colour of its first vertex."""
    o3d = import_open3d()
    vertices, triangles, colors = mesh
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor(vertices.astype(np.float32)), o3d.core.Tensor(triangles.astype(np.uint32)))
    rays = scene.create_rays_pinhole(o3d.core.Tensor(intrinsics), o3d.core.Tensor(camera), *size)
    hit = scene.cast_rays(rays)["primitive_ids"].numpy()
    palette = np.concatenate([np.rint(colors[triangles[:, 0]] * 255), [BACKGROUND]]).astype(np.uint8)
    return palette[np.where(hit == scene.INVALID_ID, len(triangles), hit)]


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


def scene_lines(frame: Frame) -> Mesh:
    """Return rings and boxes as one mesh in the ego frame."""
    return joined(ground_rings(), frame_mesh(frame))


def joined(*parts: Mesh) -> Mesh:
    """Return some meshes as one."""
    offsets = np.cumsum([0, *(len(vertices) for vertices, _, _ in parts)])
    triangles = [part[1] + offset for part, offset in zip(parts, offsets, strict=False)]
    return np.concatenate([p[0] for p in parts]), np.concatenate(triangles), np.concatenate([p[2] for p in parts])


def import_open3d() -> Any:
    """Import Open3D when it is needed: it takes a second, and pictures that do not use it go without."""
    import open3d

    return open3d
