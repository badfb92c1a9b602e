# SPDX-License-Identifier: Apache-2.0
"""A frustum from above and from the side, with the true and the predicted box around its object."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from pcperc.geometry import BOX_EDGES, box_corners
from pcperc.visualization.colors import BACKGROUND, CLASS_COLORS, MUTED, RING, SIMULATED, TEXT
from pcperc.visualization.drawing import draw_line, draw_text, draw_tick, name_axes
from pcperc.visualization.frame import PREDICTION, TRUTH, origin_notes

OBJECT, OTHER = (255, 214, 10), (90, 110, 140)
TRUE_BOX, PREDICTED_BOX = (235, 235, 235), CLASS_COLORS["car"]
HEAD = 70  # pixels above the views
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)  # metres between lines of the grid
_NEAR = 40  # pixels: lines nearer to each other would be named over each other
_SCALE = 0.42


def draw_frustum(
    points: np.ndarray,
    *,
    truth: np.ndarray | None = None,
    predicted: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    title: str = "",
    simulated: bool = False,
    trained_on_simulated: bool = False,
    extent: float | None = None,
    size: int = 480,
) -> np.ndarray:
    """Draw the points of a frustum around its object, from above (ahead is up) and from the right (ahead is right).

    Both views have a grid in metres of the frustum frame: how far ahead of the sensor, to its left and above it.

    Args:
        points: (N, >= 3), frustum frame, N >= 0.
        truth, predicted: (7,) boxes of the frustum frame, or None.
        mask: (N,) true where a point is taken for the object, by the prediction if there is one, or None.
        title: written above. simulated, trained_on_simulated: as of `draw_parts`.
        extent: metres from the middle of a view to its sides; None fits the box, or else the points.
        size: of a view in pixels.
    Returns:
        (size + head, 2 * size, 3) uint8 RGB.
    Raises:
        ValueError: a mask of another length, or boxes of other than 7 numbers.
    """
    if mask is not None and np.shape(mask) != (len(points),):
        raise ValueError(f"draw_frustum: mask must be ({len(points)},), one a point, got {np.shape(mask)}")
    boxes = [(box, color) for box, color in ((truth, TRUE_BOX), (predicted, PREDICTED_BOX)) if box is not None]
    for box, _ in boxes:
        if np.shape(box) != (7,):
            raise ValueError(f"draw_frustum: boxes must be (7,), got {np.shape(box)}")
    xyz = np.asarray(points, np.float64)[:, :3]
    middle, reach = sight(xyz, [box for box, _ in boxes])
    scale = size / (2 * max(reach if extent is None else extent, 0.5))
    taken = np.zeros(len(xyz), bool) if mask is None else np.asarray(mask, bool)
    # From above: u grows to the right (-y), v down (-x). From the right: u grows ahead (x), v down (-z).
    views = [_view(xyz, taken, boxes, middle, columns, scale, size) for columns in ((-2, -1), (1, -3))]
    for view, names in zip(views, (("left (m)", "ahead (m)"), ("ahead (m)", "up (m)")), strict=True):
        name_axes(view, *names)
    views[1][:, 0] = MUTED
    head = np.full((HEAD, 2 * size, 3), BACKGROUND, np.uint8)
    draw_text(head, title, (10, 18), TEXT)
    place = 10
    for text, color in legend_of_frustum(truth=truth, predicted=predicted, mask=mask).items():
        draw_text(head, text, (place, 40), color, scale=_SCALE)
        place += _width(text) + 20
    for row, note in enumerate(origin_notes(simulated=simulated, trained_on_simulated=trained_on_simulated)):
        draw_text(head, note, (2 * size - _width(note) - 10, 18 + 22 * row), SIMULATED, scale=_SCALE)
    for column, text in enumerate(("from above, ahead is up", "from the right, ahead is right")):
        draw_text(head, text, (10 + column * size, 62), MUTED, scale=_SCALE)
    return np.concatenate([head, np.concatenate(views, axis=1)])


def legend_of_frustum(
    *, truth: np.ndarray | None, predicted: np.ndarray | None, mask: np.ndarray | None
) -> dict[str, tuple[int, int, int]]:
    """Return what the colours of `draw_frustum` stand for, called with the same arguments."""
    whose = f"points of the {'true' if predicted is None else 'predicted'} object"
    given = (
        (whose, OBJECT, mask),
        (f"{TRUTH} (box)", TRUE_BOX, truth),
        (f"{PREDICTION} (box)", PREDICTED_BOX, predicted),
    )
    return {name: color for name, color, found in given if found is not None}


def sight(xyz: np.ndarray, boxes: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """Return what to look at, (3,), and how far around it: the first box, or else the points."""
    if boxes:
        return np.asarray(boxes[0][:3], np.float64), 1.5 * float(np.max(boxes[0][3:6]))
    middle = np.median(xyz, axis=0) if len(xyz) else np.zeros(3)
    return middle, float(np.abs(xyz - middle).max()) if len(xyz) else 1.0


def _view(xyz, taken, boxes, middle, columns, scale: float, size: int) -> np.ndarray:
    """Draw one view; ``columns`` says which axis (1 to 3, negative for turned) runs right and down."""

    def pixel(places: np.ndarray) -> np.ndarray:
        turned = [np.sign(c) * (places - middle)[..., abs(c) - 1] for c in columns]
        return np.stack(turned, -1) * scale + (size - 1) / 2

    image = np.full((size, size, 3), BACKGROUND, np.uint8)
    step = next((step for step in STEPS if step * scale >= _NEAR), STEPS[-1])
    reach = size / (2 * scale)
    for horizontal, column in enumerate(columns):
        centre, turned = middle[abs(column) - 1], np.sign(column)
        for number in range(math.ceil((centre - reach) / step), math.floor((centre + reach) / step) + 1):
            at = turned * (number * step - centre) * scale + (size - 1) / 2
            a, b = ((0, at), (size, at)) if horizontal else ((at, 0), (at, size))
            draw_line(image, a, b, RING, thickness=1)
            along = size - 1 - at if horizontal else at
            if 24 <= along <= size - 40:  # not over the names of the axes, nor two in the corner
                draw_tick(image, f"{number * step:g}", along, horizontal=bool(horizontal))
    order = np.argsort(taken, kind="stable")  # the object's points last
    spots = np.rint(pixel(xyz[order])).astype(np.int64)
    inside = ((spots >= 1) & (spots < size - 1)).all(1)
    colors = np.where(taken[order][:, None], np.array(OBJECT, np.uint8), np.array(OTHER, np.uint8))
    for u in (-1, 0, 1):
        for v in (-1, 0, 1):
            if abs(u) + abs(v) < 2:
                image[spots[inside, 1] + v, spots[inside, 0] + u] = colors[inside]
    for box, color in boxes:
        corners = pixel(box_corners(np.asarray(box, np.float64)[None])[0])
        for a, b in BOX_EDGES:
            draw_line(image, corners[a], corners[b], color, thickness=1)
        front = corners[[0, 3, 7, 4]].mean(0)
        draw_line(image, corners.mean(0), front, color, thickness=2)
    return image


def _width(text: str) -> int:
    return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, _SCALE, 1)[0][0]
