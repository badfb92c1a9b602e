# SPDX-License-Identifier: Apache-2.0
"""Calorimeter events: hits in the colours of their clusters, true beside predicted, flat and in three dimensions."""

import cv2
import numpy as np

from pcperc.geometry import HitClusters
from pcperc.visualization.colors import BACKGROUND, MUTED, RING, SIMULATED
from pcperc.visualization.drawing import draw_line, draw_text, draw_tick, name_axes
from pcperc.visualization.event_colors import FURTHER, IN_NO_CLUSTER, colors_of_hits
from pcperc.visualization.event_frame import EventFrame
from pcperc.visualization.event_legend import draw_legend_row, legend_of_hits
from pcperc.visualization.frame import PREDICTION, SIMULATED_DATA, TRAINED_ON_SIMULATED, TRUTH
from pcperc.visualization.scene import SceneError, cast_rays, look_at, open3d_problem
from pcperc.visualization.scene_geometry import point_squares

HEADER = 98  # pixels above the panels of a layer
EYE_DISTANCE = 620.0  # cm from the middle of the endcap
POINT_SIZE = 2.5  # pixels of the pictures in three dimensions
X_RANGE, DEPTH_RANGE, RADIUS_RANGE = (-280.0, 280.0), (310.0, 530.0), (0.0, 280.0)  # cm


def draw_event(frame: EventFrame, *, size: int = 520, color_by: str = "cluster") -> np.ndarray:
    """Draw an event along the beam (x, y) and from the side (z, distance from the beam), a column for each layer.

    Where both endcaps have hits, each has panels of its own, that at z < 0 to the left: the lower row is then the usual
    picture of both, without what lies between them. x grows to the right in both, as one sees them from far ahead on
    +z. Coloured clusters are drawn over further ones, those over noise; large energies last and larger. Needs no
    display.

    Args:
        size: of each of the panels, pixels. color_by: as of `colors_of_hits`.
    Returns:
        (2 size + header, layers * endcaps * size, 3) uint8 RGB.
    """
    colors, columns = colors_of_hits(frame, by=color_by), []
    for kind, clusters in frame.layers():
        header = _header(frame, kind, clusters, size * len(frame.endcaps()), color_by)
        panels = [_endcap(frame.hits[rows], colors[kind][rows], name, size) for name, rows in frame.endcaps()]
        for panel in panels[1:]:
            panel[:, 0] = MUTED
        columns.append(np.concatenate([header, np.concatenate(panels, axis=1)]))
    return np.concatenate(columns, axis=1)


def render_event(frame: EventFrame, *, width: int = 800, height: int = 700, color_by: str = "cluster") -> np.ndarray:
    """Draw an event in three dimensions with Open3D, without a display: layers side by side, endcaps below each other.

    Each endcap is seen from the collision point, y upwards.

    Returns:
        (header + endcaps * height, layers * width, 3) uint8 RGB.
    Raises:
        SceneError: Open3D cannot be loaded; the message is that of `open3d_problem`.
    """
    problem = open3d_problem()
    if problem:
        raise SceneError(problem)
    colors, places, columns = colors_of_hits(frame, by=color_by), upright(frame.hits), []
    for kind, clusters in frame.layers():
        column = [_header(frame, kind, clusters, width, color_by)]
        for name, rows in frame.endcaps():
            picture = _render(places[rows], colors[kind][rows], width, height)
            draw_text(picture, f"{name}, from the collision point", (10, height - 10), MUTED, scale=0.42)
            column.append(picture)
        columns.append(np.concatenate(column))
    return np.concatenate(columns, axis=1)


def upright(hits: np.ndarray) -> np.ndarray:
    """Return the hits' places as they are looked at, (N, 3): depth, what is to the left, and y.

    In cm from the middle of their endcap. Each endcap is turned about y to stand ahead of the collision point, not
    mirrored: to the left is +x in that at z > 0 and -x in that at z < 0.
    """
    x, y, z = hits[:, 5:8].astype(np.float64).T
    return np.stack([np.abs(z) - 420.0, np.where(z < 0, -x, x), y], axis=1)


def point_of_view() -> np.ndarray:
    """Return the (4, 4) matrix to a camera beside the front of the endcap."""
    eye = EYE_DISTANCE * np.array([-0.72, -0.58, 0.38])
    return look_at(eye, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))


def _header(frame: EventFrame, kind: str, clusters: HitClusters, width: int, color_by: str) -> np.ndarray:
    """Draw what is shown: clusters, energies, the event, what the colours mean, where data and network come from."""
    panel = np.full((HEADER, width, 3), BACKGROUND, np.uint8)
    count = len(np.unique(clusters.instances[clusters.instances >= 0]))
    inside, total = float(frame.hits[clusters.instances >= 0, 0].sum()), float(frame.hits[:, 0].sum())
    told = f"{count} clusters, {inside:.0f} of {total:.0f} GeV"
    if kind not in (TRUTH, PREDICTION):  # nobody said which there are
        told = f"- clusters, - of {total:.0f} GeV"
    draw_text(panel, f"{kind}: {told}", (10, 22))
    draw_text(panel, f"{frame.token}  {len(frame.hits)} hits"[:70], (10, 44), MUTED, scale=0.42)
    if frame.simulated:
        draw_text(panel, SIMULATED_DATA, (width - 170, 44), SIMULATED, scale=0.5)
    draw_legend_row(panel, legend_of_hits(frame, kind, color_by), (10, 66))
    if kind == PREDICTION and frame.trained_on_simulated:
        draw_text(panel, TRAINED_ON_SIMULATED, (10, 88), SIMULATED, scale=0.42)
    return panel


def _endcap(hits: np.ndarray, colors: np.ndarray, name: str, size: int) -> np.ndarray:
    """Draw the hits of one endcap along the beam and, below, from the side."""
    x, y, z = hits[:, 5:8].T
    depths = DEPTH_RANGE if name == "z > 0" else (-DEPTH_RANGE[1], -DEPTH_RANGE[0])
    panels = []
    for across, along, *view in (
        ("x (cm)", "y (cm)", x, y, X_RANGE, X_RANGE),
        ("z (cm)", "distance from the beam (cm)", z, np.hypot(x, y), depths, RADIUS_RANGE),
    ):
        panels.append(_panel(*view, hits[:, 0], colors, size))
        name_axes(panels[-1], across, along)
    draw_text(panels[0], name, (size - 60, 18), MUTED, scale=0.42)
    return np.concatenate(panels)


def _render(places: np.ndarray, colors: np.ndarray, width: int, height: int) -> np.ndarray:
    """Draw places as `upright` gives them with Open3D, four rays a pixel."""
    if not len(places):
        return np.full((height, width, 3), BACKGROUND, np.uint8)
    camera, focal = point_of_view(), height
    intrinsics = np.array([[2 * focal, 0, width - 0.5], [0, 2 * focal, height - 0.5], [0, 0, 1]])
    squares = point_squares(places, camera=camera, size=POINT_SIZE / focal)
    mesh = *squares, np.repeat(colors / 255.0, 4, axis=0)
    picture = cast_rays(mesh, intrinsics, camera, size=(2 * width, 2 * height))
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _panel(u, v, u_range, v_range, energy, colors, size: int) -> np.ndarray:
    """Draw hits at (u, v), v upwards."""
    image = np.full((size, size, 3), BACKGROUND, np.uint8)
    for low, high, horizontal in ((*u_range, False), (*v_range, True)):
        for tick in np.arange(np.ceil(low / 100) * 100, high, 100.0):
            at = (tick - low) / (high - low) * (size - 1)
            a, b = ((0, size - 1 - at), (size - 1, size - 1 - at)) if horizontal else ((at, 0), (at, size - 1))
            draw_line(image, a, b, RING, thickness=1)
            draw_tick(image, f"{tick:.0f}", at, horizontal=horizontal)
    columns = (u - u_range[0]) / (u_range[1] - u_range[0]) * (size - 1)
    rows = (size - 1) - (v - v_range[0]) / (v_range[1] - v_range[0]) * (size - 1)
    large = np.clip(np.log10(np.maximum(energy, 1e-3) / 0.1) + 1, 1, 4).astype(int)
    above = np.full(len(colors), 2)
    for layer, color in enumerate((IN_NO_CLUSTER, FURTHER)):
        above[(colors == np.array(color)).all(axis=1)] = layer
    order = np.lexsort((energy, above))
    for row in order:
        place = int(round(float(columns[row]))), int(round(float(rows[row])))
        cv2.circle(image, place, int(large[row]), tuple(int(c) for c in colors[row]), -1)
    return image
