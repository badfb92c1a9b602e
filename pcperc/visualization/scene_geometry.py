# SPDX-License-Identifier: Apache-2.0
"""Boxes and arrows as triangles, for viewers that draw lines one pixel thin. numpy only."""

import numpy as np

from pcperc.geometry import BOX_EDGES, FRONT_FACE, box_corners
from pcperc.visualization.colors import RING, class_color
from pcperc.visualization.drawing import MOVING, line_style
from pcperc.visualization.frame import Frame

LINE_WIDTH = 0.05  # metres for each pixel of `line_style`


def tubes(starts: np.ndarray, ends: np.ndarray, *, width: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return square tubes around line segments.

    Args:
        starts, ends: (S, 3) metres.
        width: (S,) metres.
    Returns:
        vertices (8 S, 3) float64 and triangles (12 S, 3) int32, all facing outwards. A segment without length gives
        triangles without area.
    """
    direction = ends - starts
    length = np.linalg.norm(direction, axis=1, keepdims=True)
    direction = np.divide(direction, length, out=np.zeros_like(direction), where=length > 0)
    helper = np.where(np.abs(direction[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    side = np.cross(direction, helper)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12)
    up = np.cross(side, direction)
    half = width[:, None] / 2
    # The ends reach half a width further, so that the edges of a box meet in full corners.
    starts, ends = starts - half * direction, ends + half * direction
    ring = [half * (a * side + b * up) for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    vertices = np.stack([end + offset for end in (starts, ends) for offset in ring], axis=1)
    quads = [(i, (i + 1) % 4, (i + 1) % 4 + 4, i + 4) for i in range(4)] + [(3, 2, 1, 0), (4, 5, 6, 7)]
    pattern = np.array([t for a, b, c, d in quads for t in ((a, c, b), (a, d, c))], np.int32)
    triangles = pattern[None] + 8 * np.arange(len(starts), dtype=np.int32)[:, None, None]
    return vertices.reshape(-1, 3), triangles.reshape(-1, 3)


def box_lines(box: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the lines of one (9,) box: its edges, a nose at the front, an arrow as long as one second of motion."""
    corners = box_corners(box[None].astype(np.float64))[0]
    lines = [(corners[a], corners[b]) for a, b in BOX_EDGES]
    front = corners[list(FRONT_FACE)].mean(axis=0)
    low_front, low_centre = front - [0, 0, box[5] / 2], box[:3] - [0, 0, box[5] / 2]
    nose = low_front + (low_front - low_centre) * min(1.0, 1.5 / max(box[3], 1e-3))
    lines += [(low_centre, nose)]
    speed = np.hypot(*box[7:9])
    if speed > MOVING:
        start = box[:3] + [0, 0, box[5] / 2]  # on top, where the box does not hide it
        end = start + [box[7], box[8], 0]
        ahead = np.array([box[7], box[8], 0]) / speed
        left = np.array([-ahead[1], ahead[0], 0])
        tip = min(0.8, 0.5 * speed)
        lines += [(start, end), (end, end - tip * (ahead + 0.5 * left)), (end, end - tip * (ahead - 0.5 * left))]
    return lines


# The strokes of a digit as on a pocket calculator, from corner to corner: corners (column, row), row 0 at the bottom.
_STROKES = (
    ((0, 2), (1, 2)), ((1, 2), (1, 1)), ((1, 1), (1, 0)), ((0, 0), (1, 0)), ((0, 1), (0, 0)), ((0, 2), (0, 1)),
    ((0, 1), (1, 1)),
)  # fmt: skip
_DIGITS = ("012345", "12", "01643", "01623", "5612", "05623", "056432", "012", "0123456", "560123")


def number_lines(number: int, place: np.ndarray, *, height: float = 1.0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the lines of a number that stands at ``place`` (3,) and is read from behind the vehicle (looking to +x).

    A line viewer draws no text, so that a track's number is made of lines as well.
    """
    unit = height / 2
    lines = []
    for position, digit in enumerate(str(number)):
        for stroke in _DIGITS[int(digit)]:
            ends = [(1.5 * position + column, row) for column, row in _STROKES[int(stroke)]]
            lines.append(tuple(place + unit * np.array([0.0, -right, up]) for right, up in ends))
    return lines


def frame_mesh(frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all boxes of a frame, with numbers and trails of tracks, as one mesh in the ego frame.

    Returns:
        vertices (N, 3), triangles (T, 3), colours (N, 3).
    """
    starts, ends, widths, colors = [], [], [], []

    def add(lines, color, thickness: int) -> None:
        for start, end in lines:
            starts.append(start)
            ends.append(end)
            widths.append(LINE_WIDTH * thickness)
            colors.append(color)

    for kind, detections in frame.layers():
        boxes = frame.boxes_in_ego(detections)
        for box, label, number in zip(boxes, np.asarray(detections.labels), frame.ids_of(kind), strict=True):
            color, thickness = line_style(frame, kind, class_color(frame.classes[label], int(label)))
            add(box_lines(box), color, thickness)
            if number is not None:
                add(number_lines(number, box[:3] + [0, 0, box[5] / 2 + 0.4]), color, thickness)
    for name, label, trail in frame.trails_in_ego():
        add(zip(trail[:-1], trail[1:], strict=True), class_color(name, label), 1)
    if not starts:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int32), np.zeros((0, 3))
    vertices, triangles = tubes(np.array(starts), np.array(ends), width=np.array(widths))
    return vertices, triangles, np.repeat(np.array(colors) / 255.0, 8, axis=0)


def ground_rings(*, radii=(10, 20, 30, 40, 50), segments: int = 90) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rings on the road around the ego vehicle as one mesh, as `frame_mesh` does."""
    turn = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    rings = [r * np.stack([np.cos(turn), np.sin(turn), np.zeros(segments)], -1) for r in radii]
    starts = np.concatenate(rings)
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    vertices, triangles = tubes(starts, ends, width=np.full(len(starts), LINE_WIDTH))
    return vertices, triangles, np.tile(np.array(RING) / 255.0, (len(vertices), 1))


def point_squares(points: np.ndarray, *, camera: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Return points as squares that face a camera and look equally large from it.

    Args:
        points: (N, 3) metres.
        camera: (4, 4) from the frame of ``points`` to the camera (x right, y down, z forward).
        size: side of a square as part of its depth.
    Returns:
        vertices (4 N, 3) and triangles (2 N, 3) int32.
    """
    right, down, forward = camera[:3, :3]
    depth = np.maximum(points @ forward + camera[2, 3], 0.0)
    half = (size * depth / 2)[:, None]
    vertices = np.stack(
        [points + half * (a * right + b * down) for a, b in ((-1, -1), (-1, 1), (1, 1), (1, -1))], axis=1
    )
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32) + 4 * np.arange(len(points), dtype=np.int32)[:, None, None]
    return vertices.reshape(-1, 3), triangles.reshape(-1, 3)
