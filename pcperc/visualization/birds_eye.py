# SPDX-License-Identifier: Apache-2.0
"""The scene seen from above: +x of the ego frame up, +y to the left."""

import numpy as np

from pcperc.geometry import box_corners
from pcperc.visualization.colors import BACKGROUND, MUTED, RING, TEXT, class_color
from pcperc.visualization.drawing import MOVING, beside_legend, draw_arrow, draw_line, draw_text, line_style
from pcperc.visualization.frame import Frame
from pcperc.visualization.point_colors import colors_of_points


def ego_to_pixel(xy: np.ndarray, *, extent: float, size: int) -> np.ndarray:
    """Return (..., 2) pixels (u, v) of (..., 2) places x, y of the ego frame, in a square of +-extent metres."""
    scale = size / (2 * extent)
    return np.stack([(extent - xy[..., 1]) * scale - 0.5, (extent - xy[..., 0]) * scale - 0.5], axis=-1)


def draw_birds_eye(frame: Frame, *, extent: float = 54.0, size: int = 1080, color_by: str = "height") -> np.ndarray:
    """Draw points and boxes from above, tracks with their numbers and trails, with a legend.

    Args:
        frame: what to draw.
        extent: metres from the ego vehicle to each side of the picture.
        size: height of the picture in pixels; the legend makes it wider.
        color_by: one of `pcperc.visualization.colorings`.
    Returns:
        (size, size + legend, 3) uint8 RGB. The legend counts the boxes that reach into the picture.
    """
    frame = frame.keep({kind: _reaches_in(frame.boxes_in_ego(boxes), extent) for kind, boxes in frame.layers()})
    image = np.full((size, size, 3), BACKGROUND, np.uint8)
    _draw_grid(image, extent)
    points = frame.points_in_ego()
    order = np.argsort(points[:, 2], kind="stable")  # the highest point of a pixel is what one sees from above
    pixels = np.rint(ego_to_pixel(points[order, :2], extent=extent, size=size)).astype(np.int64)
    visible = ((pixels >= 0) & (pixels < size)).all(axis=1)
    image[pixels[visible, 1], pixels[visible, 0]] = colors_of_points(frame, by=color_by)[order][visible]
    for name, label, trail in frame.trails_in_ego():
        places = ego_to_pixel(trail[:, :2], extent=extent, size=size)
        for a, b in zip(places[:-1], places[1:], strict=True):
            draw_line(image, a, b, class_color(name, label), thickness=1)
    for kind, detections in frame.layers():
        boxes = frame.boxes_in_ego(detections)
        for box, label, number in zip(boxes, np.asarray(detections.labels), frame.ids_of(kind), strict=True):
            color, thickness = line_style(frame, kind, class_color(frame.classes[label], int(label)))
            small = max(box[3:5]) < 2  # two pixels a line would fill it
            _draw_box(image, box, color, extent=extent, thickness=1 if small else thickness)
            if number is not None:
                corner = ego_to_pixel(box[:2], extent=extent, size=size) + [8, -8]
                draw_text(image, str(number), corner, color, scale=0.4)
    _draw_ego(image, extent)
    return beside_legend(image, frame, color_by=color_by)


def _reaches_in(boxes: np.ndarray, extent: float) -> np.ndarray:
    """Return (K,) bool: whether the rectangle around a box's footprint meets the picture."""
    corners = box_corners(boxes)[:, :4, :2]
    return ((corners.min(axis=1) < extent) & (corners.max(axis=1) > -extent)).all(axis=1)


def _draw_box(image: np.ndarray, box: np.ndarray, color, *, extent: float, thickness: int) -> None:
    """Footprint, a line from the centre to the front, and an arrow as long as one second of motion."""
    size = image.shape[0]
    corners = ego_to_pixel(box_corners(box[None])[0, :4, :2], extent=extent, size=size)
    centre = ego_to_pixel(box[:2], extent=extent, size=size)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        draw_line(image, a, b, color, thickness=thickness)
    draw_line(image, centre, (corners[0] + corners[3]) / 2, color, thickness=thickness)
    if np.hypot(*box[7:9]) > MOVING:  # NaN, an unknown velocity, is not greater
        end = ego_to_pixel(box[:2] + box[7:9], extent=extent, size=size)
        draw_arrow(image, centre, end, color, thickness=1)


def _draw_grid(image: np.ndarray, extent: float) -> None:
    """Rings each 10 m, named each 20 m."""
    size = image.shape[0]
    turn = np.linspace(0, 2 * np.pi, 181)
    for radius in range(10, int(extent) + 1, 10):
        ring = ego_to_pixel(radius * np.stack([np.cos(turn), np.sin(turn)], -1), extent=extent, size=size)
        for a, b in zip(ring[:-1], ring[1:], strict=True):
            draw_line(image, a, b, RING, thickness=1)
        if radius % 20 == 0:
            place = ego_to_pixel(np.array([radius + 0.5, 0.0]), extent=extent, size=size)
            draw_text(image, f"{radius} m", place, MUTED, scale=0.4)


def _draw_ego(image: np.ndarray, extent: float) -> None:
    """The recording vehicle: about 4.1 x 1.7 m, the ego frame's origin between its rear wheels."""
    size = image.shape[0]
    outline = np.array([[3.2, 0.0], [2.2, 0.85], [-0.9, 0.85], [-0.9, -0.85], [2.2, -0.85]])
    pixels = ego_to_pixel(outline, extent=extent, size=size)
    for a, b in zip(pixels, np.roll(pixels, -1, axis=0), strict=True):
        draw_line(image, a, b, TEXT, thickness=1)
