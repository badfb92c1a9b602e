# SPDX-License-Identifier: Apache-2.0
"""Calorimeter events: hits in the colours of their clusters, true beside predicted, flat and in three dimensions."""

import cv2
import numpy as np

from pcperc.geometry import HitClusters
from pcperc.visualization.colors import BACKGROUND, MUTED, RING, SIMULATED, TEXT
from pcperc.visualization.drawing import draw_line, draw_text
from pcperc.visualization.event_colors import (
    CLASS_COLORS,
    FURTHER,
    NUM_COLORED,
    color_numbers,
    colors_of_hits,
    lacks_classes,
)
from pcperc.visualization.event_frame import EventFrame
from pcperc.visualization.frame import PREDICTION, TRUTH
from pcperc.visualization.scene import SceneError, cast_rays, look_at, open3d_problem
from pcperc.visualization.scene_geometry import point_squares

HEADER = 78  # pixels above each panel
EYE_DISTANCE = 620.0  # cm from the middle of the endcap
POINT_SIZE = 2.5  # pixels of the pictures in three dimensions


def draw_event(frame: EventFrame, *, size: int = 520, color_by: str = "cluster") -> np.ndarray:
    """Draw an event along the beam (x, y) and from the side (depth, distance from the beam), a column for each layer.

    Coloured clusters are drawn over further ones, those over noise; large energies last and larger. Needs no display.

    Args:
        size: of each of the panels, pixels. color_by: as of `colors_of_hits`.
    Returns:
        (2 size + header, layers * size, 3) uint8 RGB.
    """
    hits, colors = frame.hits, colors_of_hits(frame, by=color_by)
    x, y, z = hits[:, 5:8].T
    radius = np.hypot(x, y)
    views = (
        ("x, y (cm)", x, y, (-280.0, 280.0), (-280.0, 280.0)),
        ("|z|, distance from the beam (cm)", np.abs(z), radius, (310.0, 530.0), (0.0, 280.0)),
    )
    columns = []
    for kind, clusters in frame.layers():
        panels = [_header(frame, kind, clusters, size, color_by)]
        for label, *view in views:
            panel = _panel(*view, hits[:, 0], colors[kind], size)
            draw_text(panel, label, (10, size - 10), MUTED, scale=0.42)
            panels.append(panel)
        columns.append(np.concatenate(panels))
    return np.concatenate(columns, axis=1)


def render_event(frame: EventFrame, *, width: int = 800, height: int = 700, color_by: str = "cluster") -> np.ndarray:
    """Draw an event in three dimensions with Open3D, without a display, a picture for each layer side by side.

    Raises:
        SceneError: Open3D cannot be loaded; the message is that of `open3d_problem`.
    """
    problem = open3d_problem()
    if problem:
        raise SceneError(problem)
    colors, places = colors_of_hits(frame, by=color_by), upright(frame.hits)
    camera, focal = point_of_view(), height
    intrinsics = np.array([[2 * focal, 0, width - 0.5], [0, 2 * focal, height - 0.5], [0, 0, 1]])
    vertices, triangles = point_squares(places, camera=camera, size=POINT_SIZE / focal)
    pictures = []
    for kind, clusters in frame.layers():
        mesh = vertices, triangles, np.repeat(colors[kind] / 255.0, 4, axis=0)
        picture = np.full((height, width, 3), BACKGROUND, np.uint8)
        if len(places):
            picture = cast_rays(mesh, intrinsics, camera, size=(2 * width, 2 * height))
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        pictures.append(np.concatenate([_header(frame, kind, clusters, width, color_by), picture]))
    return np.concatenate(pictures, axis=1)


def upright(hits: np.ndarray) -> np.ndarray:
    """Return the hits' places as they are looked at, (N, 3): depth, -x and y, in cm from the middle of the endcap."""
    x, y, z = hits[:, 5:8].astype(np.float64).T
    return np.stack([np.abs(z) - 420.0, -x, y], axis=1)


def point_of_view() -> np.ndarray:
    """Return the (4, 4) matrix to a camera beside the front of the endcap."""
    eye = EYE_DISTANCE * np.array([-0.72, -0.58, 0.38])
    return look_at(eye, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))


def _header(frame: EventFrame, kind: str, clusters: HitClusters, width: int, color_by: str) -> np.ndarray:
    """Draw what is shown: clusters, energies, the event and what the colours mean."""
    panel = np.full((HEADER, width, 3), BACKGROUND, np.uint8)
    count = len(np.unique(clusters.instances[clusters.instances >= 0]))
    inside, total = float(frame.hits[clusters.instances >= 0, 0].sum()), float(frame.hits[:, 0].sum())
    told = f"{count} clusters, {inside:.0f} of {total:.0f} GeV"
    if kind not in (TRUTH, PREDICTION):  # nobody said which there are
        told = f"- clusters, - of {total:.0f} GeV"
    draw_text(panel, f"{kind}: {told}", (10, 22))
    draw_text(panel, f"{frame.title()}  {len(frame.hits)} hits"[:70], (10, 44), MUTED, scale=0.42)
    if frame.simulated:
        draw_text(panel, "SIMULATED", (width - 110, 44), SIMULATED, scale=0.5)
    at = 10
    for text, color in _legend(frame, kind, count, color_by):
        draw_text(panel, text, (at, 66), color, scale=0.42)
        at += 6 * len(text) + 18
    return panel


def _legend(frame: EventFrame, kind: str, count: int, color_by: str) -> list[tuple[str, tuple[int, int, int]]]:
    """Say what the colours of a layer mean, as words in these colours."""
    if color_by == "class":
        return [("classes: -", MUTED)] if lacks_classes(frame, kind) else list(CLASS_COLORS.items())
    entries = [("in no cluster", MUTED)] if kind in (TRUTH, PREDICTION) else []
    colored = np.unique(color_numbers(frame)[kind])
    colored = int(((colored >= 0) & (colored < NUM_COLORED)).sum())
    if colored < count:
        entries = [(f"{colored} clusters in colours", TEXT), (f"{count - colored} further ones", FURTHER), *entries]
    return entries


def _panel(u, v, u_range, v_range, energy, colors, size: int) -> np.ndarray:
    """Draw hits at (u, v), v upwards."""
    image = np.full((size, size, 3), BACKGROUND, np.uint8)
    for low, high, horizontal in ((*u_range, False), (*v_range, True)):
        for tick in np.arange(np.ceil(low / 100) * 100, high, 100.0):
            at = (tick - low) / (high - low) * (size - 1)
            a, b = ((0, size - 1 - at), (size - 1, size - 1 - at)) if horizontal else ((at, 0), (at, size - 1))
            draw_line(image, a, b, RING, thickness=1)
            place = (4, size - 3 - at) if horizontal else (at + 3, 12)
            draw_text(image, f"{tick:.0f}", place, MUTED, scale=0.34)
    columns = (u - u_range[0]) / (u_range[1] - u_range[0]) * (size - 1)
    rows = (size - 1) - (v - v_range[0]) / (v_range[1] - v_range[0]) * (size - 1)
    large = np.clip(np.log10(np.maximum(energy, 1e-3) / 0.1) + 1, 1, 4).astype(int)
    above = np.full(len(colors), 2)
    for layer, color in enumerate((MUTED, FURTHER)):
        above[(colors == np.array(color)).all(axis=1)] = layer
    order = np.lexsort((energy, above))
    for row in order:
        place = int(round(float(columns[row]))), int(round(float(rows[row])))
        cv2.circle(image, place, int(large[row]), tuple(int(c) for c in colors[row]), -1)
    return image
