# SPDX-License-Identifier: Apache-2.0
"""Colours of the points of a frame: by where they are, or by what is said of them."""

import numpy as np

from pcperc.geometry import IGNORED
from pcperc.visualization.colors import MUTED, OTHER_COLORS, POINT_COLORINGS, class_color, point_colors
from pcperc.visualization.frame import Frame

# What is right is grey, so that one colour is left to look at, which no part has and no class comes near.
RIGHT, WRONG, UNSCORED = (166, 172, 182), (255, 20, 150), (72, 78, 88)


def colorings(frame: Frame) -> tuple[str, ...]:
    """Return what the points of a frame can be coloured by; the last ones need labels.

    "class" is the predicted class, or the true one where there is no prediction; "truth" the true one; "error" tells
    right from wrong; "instance" tells objects apart.
    """
    truth, predicted = frame.point_labels is not None, frame.predicted_labels is not None
    found = {
        **dict.fromkeys(POINT_COLORINGS, True),
        "class": truth or predicted,
        "truth": truth,
        "error": truth and predicted,
        "instance": frame.point_instances is not None,
    }
    return tuple(name for name, there in found.items() if there)


def default_coloring(frame: Frame) -> str:
    """Return "class" where points have one, else "height"."""
    return "class" if "class" in colorings(frame) else "height"


def colors_of_points(frame: Frame, *, by: str) -> np.ndarray:
    """Return (N, 3) uint8 RGB, one for each point of the frame.

    Args:
        frame: the frame.
        by: one of `colorings`. A point without a class or object is grey.
    Raises:
        ValueError: another name, or one for which the frame has no labels.
    """
    if by not in colorings(frame):
        raise ValueError(f"colors_of_points: by must be one of {', '.join(colorings(frame))}, got {by!r}")
    if by in POINT_COLORINGS:
        return point_colors(frame.points_in_ego(), by=by)
    if by == "instance":
        return _by_number(frame.point_instances)
    if by == "error":
        table = np.array([WRONG, RIGHT, UNSCORED], np.uint8)
        right = (frame.point_labels == frame.predicted_labels).astype(np.int64)
        return table[np.where(frame.point_labels == IGNORED, 2, right)]
    labels = frame.point_labels if by == "truth" or frame.predicted_labels is None else frame.predicted_labels
    table = np.full((IGNORED + 1, 3), MUTED, np.uint8)
    table[: len(frame.classes)] = [class_color(name, index) for index, name in enumerate(frame.classes)]
    return table[labels]


def _by_number(instances: np.ndarray) -> np.ndarray:
    """Neighbouring numbers get different colours; 0, no object, is grey."""
    table = np.array(OTHER_COLORS, np.uint8)
    return np.where(instances[:, None] > 0, table[instances % len(table)], np.array(MUTED, np.uint8)).astype(np.uint8)
