# SPDX-License-Identifier: Apache-2.0
"""What the colours of an event's hits stand for, and what else must be said of it, as words beside its picture."""

from collections.abc import Sequence

import cv2
import numpy as np

from pcperc.visualization.colors import BACKGROUND, MUTED, SIMULATED, TEXT
from pcperc.visualization.drawing import draw_text
from pcperc.visualization.event_colors import (
    CLASS_COLORS,
    FURTHER,
    IN_NO_CLUSTER,
    NUM_COLORED,
    UNKNOWN,
    color_numbers,
    is_unknown,
)
from pcperc.visualization.event_frame import EventFrame
from pcperc.visualization.frame import TRUTH

Color = tuple[int, int, int]
PANEL_WIDTH = 300  # pixels
_SQUARE, _SCALE = 12, 0.42


def legend_of_hits(frame: EventFrame, kind: str, color_by: str) -> list[tuple[str, Color | None]]:
    """Return what the colours of one layer mean, as words and a colour each; None: of many colours, or of none."""
    if is_unknown(frame, kind, color_by):
        return [("classes: -" if color_by == "class" else "clusters: -", UNKNOWN)]
    if color_by == "class":
        return list(CLASS_COLORS.items())
    number = color_numbers(frame)[kind]
    colored = len(np.unique(number[(number >= 0) & (number < NUM_COLORED)]))
    further = len(np.unique(dict(frame.layers())[kind].instances[number == NUM_COLORED]))
    many = [(f"{colored} clusters in colours", None), (f"{further} further ones", FURTHER)] if further else []
    background = frame.simulated and kind == TRUTH  # what the simulator puts into no shower
    return [*many, ("in no cluster: pile-up and noise" if background else "in no cluster", IN_NO_CLUSTER)]


def draw_legend_row(image: np.ndarray, entries: list[tuple[str, Color | None]], place: tuple[int, int]) -> None:
    """Write entries beside each other, each behind a square of its colour; ``place`` is where the text stands."""
    at, row = place
    for text, color in entries:
        if color is not None:
            image[row - _SQUARE + 2 : row + 2, at : at + _SQUARE] = color
            at += _SQUARE + 6
        draw_text(image, text, (at, row), MUTED if color is None else TEXT, scale=_SCALE)
        at += cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, _SCALE, 1)[0][0] + 18


def draw_legend_panel(frame: EventFrame, height: int, *, color_by: str, shown: Sequence[str]) -> np.ndarray:
    """Return a panel (height, `PANEL_WIDTH`, 3) uint8 for a picture of the window.

    Args:
        shown: what the window has from left to right.
    """
    panel, row = np.full((height, PANEL_WIDTH, 3), BACKGROUND, np.uint8), 28
    for text in frame.notes():
        draw_text(panel, text, (10, row), SIMULATED, scale=_SCALE)
        row += 20
    legends = [(kind, legend_of_hits(frame, kind, color_by)) for kind, _ in frame.layers()]
    entries = [(f"{kind}: {text}", color) for kind, legend in legends for text, color in legend]
    for entry in [(text, None) for text in (frame.token, "from left to right:", *shown)] + entries:
        draw_legend_row(panel, [entry], (10, row))
        row += 20
    return panel
