# SPDX-License-Identifier: Apache-2.0
"""Boxes drawn on the camera images, and all images in one mosaic."""

import cv2
import numpy as np

from pcperc.geometry import BOX_EDGES, FRONT_FACE, box_corners, project_points, transform_points
from pcperc.visualization.colors import BACKGROUND, MUTED, class_color
from pcperc.visualization.drawing import MOVING, beside_legend, draw_arrow, draw_line, draw_text, line_style
from pcperc.visualization.frame import Frame

NEAR = 0.3  # metres in front of a camera at which lines are cut off
# Where a camera of this name stands in the mosaic; others follow in their order.
NUSCENES_ORDER = (
    "CAM_FRONT_LEFT",
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_LEFT",
    "CAM_BACK",
    "CAM_BACK_RIGHT",
)


def draw_camera_overlay(frame: Frame, view: int, *, width: int | None = None) -> np.ndarray:
    """Return the image of one camera with the boxes on it.

    Args:
        frame: what to draw.
        view: number of the camera.
        width: of the result in pixels; None keeps the image's.
    Returns:
        (H, W, 3) uint8 RGB. Box bottoms and sides by class colour; the front face is crossed by a diagonal.
    """
    return _overlay(frame, view, width=width)[0]


def _overlay(frame: Frame, view: int, *, width: int | None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the picture of `draw_camera_overlay` and, by layer, which boxes are seen in it, (K,) bool."""
    image = frame.images[view]
    height, full_width = image.shape[:2]
    size = (full_width, height) if width is None else (width, round(height * width / full_width))
    across, down = size[0] / full_width, size[1] / height
    picture = image.copy()
    if size[0] != full_width:
        picture = cv2.resize(image, size, interpolation=cv2.INTER_AREA if across < 1 else cv2.INTER_LINEAR)
    # Pixel centres are whole numbers: u -> across * (u + 0.5) - 0.5.
    resize = np.array([[across, 0, across / 2 - 0.5], [0, down, down / 2 - 0.5], [0, 0, 1]])
    augmentation = resize if frame.image_aug is None else resize @ frame.image_aug[view]
    camera = _Camera(picture, frame.camera2image[view], augmentation)
    seen = {}
    for kind, detections in frame.layers():
        seen[kind] = np.zeros(len(detections), bool)
        boxes = np.asarray(detections.boxes, np.float64)
        corners = transform_points(box_corners(boxes).reshape(-1, 3), frame.lidar2camera[view]).reshape(-1, 8, 3)
        numbers = frame.ids_of(kind)
        far_first = np.argsort(-corners[..., 2].mean(axis=1))
        for k in far_first:
            label = int(np.asarray(detections.labels)[k])
            color, thickness = line_style(frame, kind, class_color(frame.classes[label], label))
            lines = [(corners[k, a], corners[k, b]) for a, b in (*BOX_EDGES, (FRONT_FACE[0], FRONT_FACE[2]))]
            seen[kind][k] = camera.draw(lines, color, thickness=thickness)
            camera.draw_velocity(boxes[k], frame.lidar2camera[view], color)
            number = numbers[k]
            if number is not None and seen[kind][k]:
                camera.draw_number(number, corners[k, 4:].mean(axis=0), color)
    return picture, seen


def draw_camera_mosaic(frame: Frame, *, tile_width: int = 640) -> np.ndarray:
    """Return all images with boxes in rows of three, front above back, beside a legend of the boxes that are seen.

    Raises:
        ValueError: the frame has no image.
    """
    if not frame.images:
        raise ValueError(f"draw_camera_mosaic: frame {frame.token} must have images, got none")
    order = sorted(range(len(frame.images)), key=lambda view: _place(frame.cameras[view]))
    tiles = []
    seen = {kind: np.zeros(len(detections), bool) for kind, detections in frame.layers()}
    for view in order:
        tile, here = _overlay(frame, view, width=tile_width)
        seen = {kind: seen[kind] | here[kind] for kind in seen}
        draw_text(tile, frame.cameras[view], (10, 22), scale=0.55, plate=True)
        tiles.append(tile)
    height = max(tile.shape[0] for tile in tiles)
    columns = min(3, len(tiles))
    rows = -(-len(tiles) // columns)
    mosaic = np.full((rows * height, columns * tile_width, 3), BACKGROUND, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * height, (i % columns) * tile_width
        mosaic[top : top + tile.shape[0], left : left + tile_width] = tile
    for row in range(1, rows):
        mosaic[row * height] = MUTED
    for column in range(1, columns):
        mosaic[:, column * tile_width] = MUTED
    return beside_legend(mosaic, frame.keep(seen))


class _Camera:
    """Draws lines given in camera coordinates; the part less than NEAR in front of the camera is cut off."""

    def __init__(self, picture: np.ndarray, camera2image: np.ndarray, augmentation: np.ndarray) -> None:
        self.picture, self.camera2image, self.augmentation = picture, camera2image, augmentation

    def draw(self, lines, color, *, thickness: int) -> bool:
        """Draw lines; return whether any of them is in the picture."""
        height, width = self.picture.shape[:2]
        seen = False
        for a, b in lines:
            ends = self._pixels(a, b)
            if ends is not None:
                draw_line(self.picture, *ends, color, thickness=thickness)
                start, end = (tuple(int(v) for v in np.clip(np.rint(point), -1e6, 1e6)) for point in ends)
                seen = seen or cv2.clipLine((0, 0, width, height), start, end)[0]
        return seen

    def draw_velocity(self, box: np.ndarray, lidar2camera: np.ndarray, color) -> None:
        """An arrow on the ground from the centre, as long as one second of motion."""
        if not np.hypot(*box[7:9]) > MOVING:
            return
        start = box[:3] - [0, 0, box[5] / 2]
        end = start + [box[7], box[8], 0]
        ends = self._pixels(*transform_points(np.stack([start, end]), lidar2camera))
        if ends is not None:
            draw_arrow(self.picture, *ends, color, thickness=1)

    def draw_number(self, number: int, place: np.ndarray, color) -> None:
        """Write the number of a track at a place in camera coordinates."""
        ends = self._pixels(place, place)
        if ends is not None and (np.abs(ends[0]) < 1e5).all():
            draw_text(self.picture, str(number), ends[0] + [-8, -4], color, scale=0.5)

    def _pixels(self, a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
        """Return the two pixels of a line, or None where all of it is behind."""
        if max(a[2], b[2]) <= NEAR:
            return None
        if a[2] < NEAR:
            a = b + (a - b) * (b[2] - NEAR) / (b[2] - a[2])
        if b[2] < NEAR:
            b = a + (b - a) * (a[2] - NEAR) / (a[2] - b[2])
        points = np.stack([a, b])
        return project_points(points, np.eye(4)[None], self.camera2image[None], self.augmentation[None])[0][0]


def _place(name: str) -> int:
    return NUSCENES_ORDER.index(name) if name in NUSCENES_ORDER else len(NUSCENES_ORDER)
