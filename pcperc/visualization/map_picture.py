# SPDX-License-Identifier: Apache-2.0
"""Map segmentation as a picture: the map, what was predicted, where the two differ."""

import numpy as np

from pcperc.geometry import MapPrediction
from pcperc.visualization.colors import BACKGROUND, MUTED, RING, TEXT, class_color
from pcperc.visualization.drawing import draw_notes, draw_text
from pcperc.visualization.frame import Frame

FOUND, MISSED, INVENTED = (64, 190, 110), (255, 70, 60), (80, 140, 255)
BOTH_WRONG = (230, 60, 230)
_LEGEND_WIDTH, _TITLE_HEIGHT, _GAP = 240, 30, 6


def draw_map(frame: Frame, *, threshold: float = 0.5, size: int = 500) -> np.ndarray:
    """Draw the true map, the predicted one and their difference side by side, +x of the ego frame up, with a legend.

    A later class is painted over an earlier one. In the difference a cell is red where a class was missed, blue where
    one was said that is not there, pink where both happened, green where classes were found and none is wrong.

    Args:
        frame: has ``true_map``, ``predicted_map`` or both; what it lacks is left out.
        threshold: a class is predicted where its probability is at least this.
        size: height of the pictures in pixels.
    Returns:
        (size + title, pictures + legend, 3) uint8 RGB. The legend gives each class's IoU in this sample.
    Raises:
        ValueError: the frame has neither map, or the two are of different grids.
    """
    truth, found = frame.true_map, frame.predicted_map
    if truth is None and found is None:
        raise ValueError("draw_map: frame must have a true_map or a predicted_map, got neither")
    if truth is not None and found is not None and truth.grid != found.grid:
        raise ValueError(f"draw_map: both maps must be of one grid, got {truth.grid} and {found.grid}")
    masks = {
        name: _from_above(maps.numpy().probabilities >= threshold, maps, frame, size)
        for name, maps in (("map", truth), ("prediction", found))
        if maps is not None
    }
    pictures = {name: _paint(mask, frame.map_classes) for name, mask in masks.items()}
    if len(masks) == 2:
        pictures["error"] = _difference(*masks.values())
    panels = []
    for name, picture in pictures.items():
        panel = np.full((size + _TITLE_HEIGHT, size + _GAP, 3), BACKGROUND, np.uint8)
        panel[_TITLE_HEIGHT:, :size] = picture
        draw_text(panel, name, (4, 20))
        panels.append(panel)
    return np.concatenate([*panels, _legend(frame, masks, threshold, height=size + _TITLE_HEIGHT)], axis=1)


def _from_above(masks: np.ndarray, maps: MapPrediction, frame: Frame, size: int) -> np.ndarray:
    """Return (C, size, size) bool: the masks read at the pixels of a square picture of the ego frame."""
    extent = float(np.abs([maps.grid.x_bound[:2], maps.grid.y_bound[:2]]).max())
    along = extent - (np.arange(size) + 0.5) * (2 * extent / size)  # metres forward of each row, left of each column
    ego = np.stack(np.meshgrid(along, along, indexing="ij"), -1)
    turn, move = frame.lidar2ego[:2, :2], frame.lidar2ego[:2, 3]
    index = np.rint(maps.grid.to_index((ego - move) @ np.linalg.inv(turn).T)).astype(np.int64)
    inside = ((index >= 0) & (index < maps.grid.shape)).all(-1)
    index = np.where(inside[..., None], index, 0)
    return masks[:, index[..., 0], index[..., 1]] & inside


def _paint(masks: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    picture = np.full((*masks.shape[1:], 3), RING, np.uint8)
    for label, (name, mask) in enumerate(zip(classes, masks, strict=True)):
        picture[mask] = class_color(name, label)
    return picture


def _difference(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    picture = np.full((*truth.shape[1:], 3), BACKGROUND, np.uint8)
    missed, invented = (truth & ~found).any(0), (found & ~truth).any(0)
    picture[(truth & found).any(0)] = FOUND
    for where, color in ((missed, MISSED), (invented, INVENTED), (missed & invented, BOTH_WRONG)):
        picture[where] = color
    return picture


def _legend(frame: Frame, masks: dict[str, np.ndarray], threshold: float, *, height: int) -> np.ndarray:
    panel = np.full((height, _LEGEND_WIDTH, 3), BACKGROUND, np.uint8)
    y = 20
    y = draw_notes(panel, frame.notes(), (14, y), scale=0.5)
    draw_text(panel, frame.scene_name, (14, y))
    draw_text(panel, frame.token[:32], (14, y + 20), MUTED, scale=0.36)
    y += 52
    if len(masks) == 2:
        draw_text(panel, f"IoU at {threshold:g}", (_LEGEND_WIDTH - 84, y), MUTED, scale=0.42)
    y += 22
    for label, name in enumerate(frame.map_classes):
        color = class_color(name, label)
        panel[y - 10 : y + 2, 14:26] = color
        draw_text(panel, name.replace("_", " "), (36, y), color, scale=0.42)
        if len(masks) == 2:
            truth, found = (mask[label] for mask in masks.values())
            either = (truth | found).sum()
            text = f"{(truth & found).sum() / either:.2f}" if either else "-"
            draw_text(panel, text, (_LEGEND_WIDTH - 50, y), TEXT, scale=0.45)
        y += 22
    if len(masks) == 2:
        y += 16
        for name, color in (("right", FOUND), ("missed", MISSED), ("invented", INVENTED), ("both", BOTH_WRONG)):
            panel[y - 10 : y + 2, 14:26] = color
            draw_text(panel, name, (36, y), color, scale=0.42)
            y += 22
    return panel
