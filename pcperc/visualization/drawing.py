# SPDX-License-Identifier: Apache-2.0
"""Lines, text, legends and files: what the 2D pictures share. Images are (H, W, 3) uint8 RGB and drawn on in place."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pcperc.files import written_whole
from pcperc.visualization.colors import BACKGROUND, CLASS_COLORS, MUTED, SIMULATED, TEXT, class_color
from pcperc.visualization.frame import PREDICTION, TRUTH, Frame
from pcperc.visualization.point_colors import RIGHT, UNSCORED, WRONG

MOVING = 0.2  # m/s: slower than this is standing, and gets no arrow
TIP = 7.0  # of an arrow, pixels
TICK_SCALE, NAME_SCALE = 0.34, 0.42  # of the text at axes
_SHIFT = 4  # cv2 takes coordinates in 1/16 pixel
_FAR = 1 << 24  # pixels: beyond, its 32-bit numbers overflow


def draw_line(image: np.ndarray, a, b, color, *, thickness: int = 2) -> None:
    """Draw a line between two pixels (u, v), whole numbers being pixel centres. NaN and far-off ends draw nothing."""
    ends = np.array([a, b], np.float64)
    if not (np.abs(ends) < _FAR).all():
        return
    start, end = (tuple(int(v) for v in point) for point in np.rint(ends * (1 << _SHIFT)))
    cv2.line(image, start, end, color, thickness, cv2.LINE_AA, _SHIFT)


def draw_arrow(image: np.ndarray, a, b, color, *, thickness: int) -> None:
    """Draw a line from a to b with a tip at b."""
    draw_line(image, a, b, color, thickness=thickness)
    direction = np.asarray(b, np.float64) - a
    length = np.hypot(*direction)
    if length > 0:
        direction /= length
        side = np.array([-direction[1], direction[0]])
        for sign in (-1, 1):
            draw_line(image, b, b - TIP * direction + sign * 0.6 * TIP * side, color, thickness=thickness)


def draw_text(image: np.ndarray, text: str, place, color=TEXT, *, scale: float = 0.5, plate: bool = False) -> None:
    """Write text whose lower left corner is at pixel ``place``; a dark plate keeps it readable on a photograph."""
    u, v = (int(round(x)) for x in place)
    if plate:
        (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        cv2.rectangle(image, (u - 5, v - height - 5), (u + width + 5, v + below + 2), BACKGROUND, -1)
    cv2.putText(image, text, (u, v), cv2.FONT_HERSHEY_SIMPLEX, scale, color, 1, cv2.LINE_AA)


def draw_tick(image: np.ndarray, text: str, at: float, *, horizontal: bool) -> None:
    """Name a line of a grid: a horizontal one at the left, above itself, others at the bottom, to the right of
    themselves.

    Args:
        at: where the line is, pixels from the left, or for a horizontal one from the bottom.
    """
    height = image.shape[0]
    # A line along the bottom is named where the bottom's names are, and one along the top below itself.
    place = (4, np.clip(height - 4 - at, 12, height - 6)) if horizontal else (at + 3, height - 6)
    draw_text(image, text, place, MUTED, scale=TICK_SCALE)


def name_axes(image: np.ndarray, across: str, along: str) -> None:
    """Write what runs to the right, above the ticks at the bottom, and what runs upwards, above those at the left."""
    draw_text(image, along, (8, 18), MUTED, scale=NAME_SCALE)
    width = cv2.getTextSize(across, cv2.FONT_HERSHEY_SIMPLEX, NAME_SCALE, 1)[0][0]
    draw_text(image, across, (image.shape[1] - width - 8, image.shape[0] - 22), MUTED, scale=NAME_SCALE)


def draw_notes(panel: np.ndarray, notes: Sequence[str], place: tuple[int, int], *, scale: float = NAME_SCALE) -> int:
    """Write notes below each other, in as many lines as they need in the panel, and return the row for what follows."""
    (left, row), room = place, panel.shape[1] - 2 * place[0]
    for note in notes:
        width = cv2.getTextSize(note, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0]
        for line in textwrap.wrap(note, max(len(note) * room // max(width, 1), 1)):
            draw_text(panel, line, (left, row), SIMULATED, scale=scale)
            row += 20
        row += 6
    return row


def line_style(frame: Frame, kind: str, color) -> tuple[tuple[int, int, int], int]:
    """Return colour and thickness of a box: truth is thin and pale where there are predictions to tell it from."""
    if kind == TRUTH and frame.predictions is not None:
        return tuple(int(0.4 * c + 0.6 * 255) for c in color), 1
    return color, 2


def legend(frame: Frame, *, height: int, width: int = 260, color_by: str = "height") -> np.ndarray:
    """Return a panel with the scene, the classes and how many boxes, or points, of each there are, and what the colours
    and lines mean."""
    panel = np.full((height, width, 3), BACKGROUND, np.uint8)
    layers = frame.labelled()
    y = 28
    y = draw_notes(panel, frame.notes(), (14, y), scale=0.5)
    draw_text(panel, frame.scene_name, (14, y))
    draw_text(panel, frame.token[:32], (14, y + 20), MUTED, scale=0.36)
    y += 52
    first = width - 50 * len(layers)
    for column, (kind, _) in enumerate(layers):
        draw_text(panel, {TRUTH: "truth", PREDICTION: "pred."}[kind], (first + 50 * column, y), MUTED)
    y += 24
    for label, name in enumerate(frame.classes):
        color = class_color(name, label)
        panel[y - 10 : y + 2, 14:26] = color
        draw_text(panel, name.replace("_", " "), (36, y), color, scale=0.42)
        for column, (_, labels) in enumerate(layers):
            count = int((labels == label).sum())
            place = (first + 50 * column + 8, y)
            text = str(count) if count < 10_000 else f"{count / 1000:.0f}k"
            draw_text(panel, text, place, TEXT if count else MUTED, scale=0.45)
        y += 22
    y += 16
    if color_by == "error":
        for name, color in (("right", RIGHT), ("wrong", WRONG), ("not scored", UNSCORED)):
            panel[y - 10 : y + 2, 14:26] = color
            draw_text(panel, name, (36, y), color, scale=0.42)
            y += 22
    if not frame.layers():
        draw_text(panel, f"points by {color_by}", (14, y), MUTED, scale=0.45)
        return panel
    for kind, _ in frame.layers():
        color, thickness = line_style(frame, kind, CLASS_COLORS["car"])
        draw_line(panel, (14, y - 4), (54, y - 4), color, thickness=thickness)
        draw_text(panel, {TRUTH: "truth", PREDICTION: "prediction"}[kind], (66, y), scale=0.45)
        y += 22
    draw_arrow(panel, (14, y - 4), (54, y - 4), TEXT, thickness=1)
    draw_text(panel, "velocity, 1 second", (66, y), scale=0.45)
    return panel


def beside_legend(picture: np.ndarray, frame: Frame, *, color_by: str = "height") -> np.ndarray:
    """Return the picture with the legend at its right."""
    return np.concatenate([picture, legend(frame, height=picture.shape[0], color_by=color_by)], axis=1)


def save_png(path: str | Path, image: np.ndarray) -> Path:
    """Write an RGB image; the name appears only when the file is whole.

    Raises:
        OSError: the file cannot be written; the message names it.
    """
    path = Path(path)
    encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    with written_whole(path) as partial:
        partial.write_bytes(encoded.tobytes())
    return path
