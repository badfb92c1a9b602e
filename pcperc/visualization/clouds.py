# SPDX-License-Identifier: Apache-2.0
"""Small clouds in a row of views: shapes by their parts, rooms by their classes; truth, prediction and errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pcperc.geometry import IGNORED
from pcperc.visualization.colors import BACKGROUND, MUTED, PART_COLORS, TEXT, class_color
from pcperc.visualization.drawing import draw_notes, draw_text
from pcperc.visualization.frame import origin_notes
from pcperc.visualization.point_colors import RIGHT, UNSCORED, WRONG

HEAD = 46  # pixels above the views for titles
UP_AXES = {"y": (2, 0, 1), "z": (0, 1, 2)}  # columns that become ahead, left and up
TURN_DEG, TILT_DEG = 35.0, {"y": 25.0, "z": 50.0}  # of the direction from which shapes and rooms are looked at
Views = dict[str, np.ndarray]  # name of a view to (N, 3) uint8
Legend = Mapping[str, tuple[int, int, int]]


def draw_cloud(
    xyz: np.ndarray,
    colors: np.ndarray,
    *,
    size: int = 420,
    up: str = "z",
    turn_deg: float = TURN_DEG,
    tilt_deg: float = 25.0,
    radius: int | None = None,
) -> np.ndarray:
    """Draw points seen obliquely from above, without perspective, so that they fill the picture; near ones hide far
    ones.

    Args:
        xyz: (N, 3); points that are not finite are left out. colors: (N, 3) uint8.
        size: of the picture in pixels. up: "z" or "y". turn_deg, tilt_deg: of the direction from which one looks.
        radius: of a point in pixels; None takes 2 for few points and 1 for over 20,000.
    Returns:
        (size, size, 3) uint8 RGB.
    Raises:
        ValueError: other shapes, or another ``up``.
    """
    xyz, colors = np.asarray(xyz, np.float64), np.asarray(colors, np.uint8)
    if xyz.ndim != 2 or xyz.shape[1] != 3 or colors.shape != xyz.shape:
        raise ValueError(f"draw_cloud: xyz and colors must be (N, 3), got {xyz.shape} and {colors.shape}")
    if up not in UP_AXES:
        raise ValueError(f"draw_cloud: up must be one of {', '.join(UP_AXES)}, got {up!r}")
    image = np.full((size, size, 3), BACKGROUND, np.uint8)
    finite = np.isfinite(xyz).all(1)
    if not finite.any():
        return image
    xyz, colors = xyz[finite][:, UP_AXES[up]], colors[finite]
    turn, tilt = math.radians(turn_deg), math.radians(tilt_deg)
    across = xyz[:, 0] * math.sin(turn) - xyz[:, 1] * math.cos(turn)
    away = xyz[:, 0] * math.cos(turn) + xyz[:, 1] * math.sin(turn)
    flat = np.stack([across, xyz[:, 2] * math.cos(tilt) + away * math.sin(tilt)], 1)
    depth = away * math.cos(tilt) - xyz[:, 2] * math.sin(tilt)
    low, high = flat.min(0), flat.max(0)
    scale = 0.92 * size / max(float((high - low).max()), 1e-9)
    pixels = np.rint((flat - (low + high) / 2) * scale * (1, -1) + (size - 1) / 2).astype(np.int64)
    radius = (2 if len(xyz) <= 20_000 else 1) if radius is None else radius
    nearness = 1 - (depth - depth.min()) / max(float(np.ptp(depth)), 1e-9)
    colors = (colors * (0.65 + 0.35 * nearness[:, None])).astype(np.uint8)
    order = np.argsort(-depth, kind="stable")
    offsets = range(-radius, radius + 1)
    disc = [(u, v) for u in offsets for v in offsets if u * u + v * v <= radius * radius + 0.5]
    # All pixels of all points in one list, far points first: what is written last stays.
    spots = (pixels[order][:, None] + np.array(disc)[None]).reshape(-1, 2)
    inside = ((spots >= 0) & (spots < size)).all(1)
    image[spots[inside, 1], spots[inside, 0]] = np.repeat(colors[order], len(disc), axis=0)[inside]
    return image


def draw_parts(
    points: np.ndarray,
    *,
    names: Mapping[int, str],
    truth: np.ndarray | None = None,
    predicted: np.ndarray | None = None,
    title: str = "",
    simulated: bool = False,
    trained_on_simulated: bool = False,
    size: int = 420,
) -> np.ndarray:
    """Draw a shape by its parts: the truth, the prediction and, where both are given, what is right and wrong.

    Args:
        points: (N, >= 3), y up.
        names: part number to name of the parts of the category.
        truth, predicted: (N,) part numbers; at least one of them. Other numbers than those of ``names`` are grey. Of
            errors, what is right is grey too, and what is wrong has a colour that no part has.
        title: written above. simulated: the picture says so. trained_on_simulated: likewise, of the network that
            predicted. size: of a view in pixels.
    Returns:
        (H, W, 3) uint8 RGB, a view for each and a legend.
    Raises:
        ValueError: neither truth nor prediction, or not one number a point.
    """
    views, legend = views_of_parts(points, names=names, truth=truth, predicted=predicted)
    notes = origin_notes(simulated=simulated, trained_on_simulated=trained_on_simulated)
    return _beside(points[:, :3], views, legend, title=title, notes=notes, size=size, up="y")


def draw_room(
    points: np.ndarray,
    *,
    classes: Sequence[str],
    truth: np.ndarray | None = None,
    predicted: np.ndarray | None = None,
    title: str = "",
    simulated: bool = False,
    trained_on_simulated: bool = False,
    size: int = 480,
) -> np.ndarray:
    """Draw a room by its classes, and in its own colours where points have them; what is called ceiling is left out.

    Args:
        points: (N, >= 3) z up; with 6 columns or more, 3 to 5 are red, green and blue in [0, 1].
        classes: names by label.
        truth, predicted: (N,) labels, 255 for none; at least one of them.
        title, simulated, trained_on_simulated, size: as of `draw_parts`.
    Returns:
        (H, W, 3) uint8 RGB, a view for each and a legend of the classes that occur.
    Raises:
        ValueError: neither truth nor prediction, or not one label a point.
    """
    views, legend, shown = views_of_room(points, classes=classes, truth=truth, predicted=predicted)
    views = {name: colors[shown] for name, colors in views.items()}
    notes = origin_notes(simulated=simulated, trained_on_simulated=trained_on_simulated)
    return _beside(points[shown, :3], views, legend, title=title, notes=notes, size=size, up="z")


def views_of_parts(
    points: np.ndarray,
    *,
    names: Mapping[int, str],
    truth: np.ndarray | None = None,
    predicted: np.ndarray | None = None,
) -> tuple[Views, Legend]:
    """Return the colours of each view of `draw_parts`, "truth", "prediction" and "error", and what they stand for."""
    table = {number: PART_COLORS[k % len(PART_COLORS)] for k, number in enumerate(names)}
    legend = {names[number]: color for number, color in table.items()}
    return _views("draw_parts", len(points), table, legend, truth, predicted)


def views_of_room(
    points: np.ndarray, *, classes: Sequence[str], truth: np.ndarray | None = None, predicted: np.ndarray | None = None
) -> tuple[Views, Legend, np.ndarray]:
    """Return the same of `draw_room`, with a view "colour" where points have colours, and (N,) bool which are shown."""
    table = {number: class_color(name, number) for number, name in enumerate(classes)}
    _check("draw_room", len(points), truth, predicted)
    given = [np.asarray(labels) for labels in (truth, predicted) if labels is not None]
    ceiling = classes.index("ceiling") if "ceiling" in classes else -1
    shown = given[0] != ceiling
    occurring = set(np.unique(np.concatenate([labels[shown] for labels in given])).tolist())
    names = dict(enumerate(classes))
    if not shown.all():  # a point that is wrongly said to be of the ceiling is drawn
        names[ceiling] += " (true: not drawn)" if ceiling in occurring else " (not drawn)"
        occurring.add(ceiling)
    legend = {names[number]: color for number, color in table.items() if number in occurring}
    rgb = np.clip(255 * points[:, 3:6], 0, 255).astype(np.uint8) if points.shape[1] >= 6 else None
    return *_views("draw_room", len(points), table, legend, truth, predicted, rgb=rgb), shown


def _views(op, count: int, table, legend, truth, predicted, *, rgb=None) -> tuple[Views, Legend]:
    _check(op, count, truth, predicted)
    views = {} if rgb is None else {"colour": rgb}
    for name, labels in (("truth", truth), ("prediction", predicted)):
        if labels is not None:
            views[name] = _colors_of(np.asarray(labels), table)
    if truth is not None and predicted is not None:
        right = np.where(np.asarray(truth) == np.asarray(predicted), 1, 0)
        unscored = np.asarray(truth) == IGNORED
        views["error"] = np.array([WRONG, RIGHT, UNSCORED], np.uint8)[np.where(unscored, 2, right)]
        legend = {**legend, "error: right": RIGHT, "error: wrong": WRONG}
        if unscored.any():
            legend["error: not scored"] = UNSCORED
    return views, legend


def _check(op: str, count: int, truth: np.ndarray | None, predicted: np.ndarray | None) -> None:
    for name, labels in (("truth", truth), ("predicted", predicted)):
        if labels is not None and np.shape(labels) != (count,):
            raise ValueError(f"{op}: {name} must be ({count},), one a point, got {np.shape(labels)}")
    if truth is None and predicted is None:
        raise ValueError(f"{op}: truth or predicted must be given, got neither")


def _beside(xyz, views: Views, legend: Legend, *, title, notes, size, up) -> np.ndarray:
    """Return the views beside each other, titles above them and the legend at the right."""
    tilt = TILT_DEG[up]
    panels = [draw_cloud(xyz, colors, size=size, up=up, tilt_deg=tilt) for colors in views.values()]
    head = np.full((HEAD, size * len(panels), 3), BACKGROUND, np.uint8)
    draw_text(head, title, (10, 18), TEXT)
    for column, name in enumerate(views):
        draw_text(head, name, (10 + column * size, 40), MUTED, scale=0.42)
    picture = np.concatenate([head, np.concatenate(panels, axis=1)])
    return np.concatenate([picture, draw_legend(legend, len(picture), notes=notes)], axis=1)


def _colors_of(labels: np.ndarray, table: Mapping[int, tuple[int, int, int]]) -> np.ndarray:
    """Return (N, 3) uint8; a number that the table lacks is grey."""
    colors = np.full((len(labels), 3), MUTED, np.uint8)
    for number, color in table.items():
        colors[labels == number] = color
    return colors


def draw_legend(entries: Legend, height: int, *, width: int = 170, notes: Sequence[str] = ()) -> np.ndarray:
    """Return a panel (height, width, 3) uint8 with `origin_notes` and a square and a name for each entry."""
    panel = np.full((height, width, 3), BACKGROUND, np.uint8)
    y = draw_notes(panel, notes, (10, 28))
    for name, color in entries.items():
        panel[max(y - 10, 0) : y + 2, 10:22] = color
        draw_text(panel, name, (30, y), color, scale=0.42)
        y += 20
    return panel
