# SPDX-License-Identifier: Apache-2.0
"""Pictures of samples and predictions: an Open3D scene, boxes on the camera images, a bird's-eye view."""

from pcperc.visualization.animation import save_gif
from pcperc.visualization.birds_eye import draw_birds_eye
from pcperc.visualization.camera_overlay import draw_camera_mosaic, draw_camera_overlay
from pcperc.visualization.clouds import draw_cloud, draw_parts, draw_room
from pcperc.visualization.colors import CLASS_COLORS
from pcperc.visualization.drawing import save_png
from pcperc.visualization.frame import Frame
from pcperc.visualization.frustums import draw_frustum
from pcperc.visualization.map_picture import draw_map
from pcperc.visualization.point_colors import colorings, default_coloring
from pcperc.visualization.scene import SceneError, open3d_problem, render_scene
from pcperc.visualization.scene_viewer import SceneViewer

__all__ = [
    "CLASS_COLORS",
    "Frame",
    "SceneError",
    "SceneViewer",
    "colorings",
    "default_coloring",
    "draw_birds_eye",
    "draw_camera_mosaic",
    "draw_camera_overlay",
    "draw_cloud",
    "draw_frustum",
    "draw_map",
    "draw_parts",
    "draw_room",
    "open3d_problem",
    "render_scene",
    "save_gif",
    "save_png",
]
