# SPDX-License-Identifier: Apache-2.0
"""The one table of class colours, and the colours of points. RGB, uint8."""

import cv2
import numpy as np

CLASS_COLORS = {
    "car": (64, 156, 255),
    "truck": (255, 140, 0),
    "construction_vehicle": (255, 214, 10),
    "bus": (48, 209, 88),
    "trailer": (200, 150, 100),
    "barrier": (185, 185, 190),
    "motorcycle": (255, 120, 200),
    "bicycle": (175, 100, 255),
    "pedestrian": (255, 80, 70),
    "traffic_cone": (0, 230, 200),
}
# What has no boxes: the classes of SemanticKITTI and nuScenes-lidarseg that the table above lacks.
SEGMENT_COLORS = {
    "other-vehicle": (130, 120, 255), "person": (255, 80, 70), "bicyclist": (255, 40, 200), "cyclist": (255, 40, 200),
    "motorcyclist": (180, 60, 130), "road": (170, 90, 170), "parking": (255, 150, 255), "sidewalk": (110, 40, 110),
    "other-ground": (175, 40, 80), "building": (235, 200, 60), "fence": (255, 120, 50), "vegetation": (40, 160, 50),
    "trunk": (150, 90, 30), "terrain": (150, 230, 110), "pole": (255, 240, 150), "traffic-sign": (255, 30, 30),
    "driveable_surface": (170, 90, 170), "other_flat": (175, 40, 80), "manmade": (235, 200, 60),
}  # fmt: skip
# Of BEV maps.
MAP_COLORS = {
    "drivable_area": (120, 130, 145), "ped_crossing": (251, 190, 60), "walkway": (200, 110, 90),
    "stop_line": (255, 70, 60), "carpark_area": (80, 140, 220), "divider": (245, 245, 245),
}  # fmt: skip
# Rooms: the classes of S3DIS, and those that ScanNet has beside them.
ROOM_COLORS = {
    "ceiling": (70, 80, 100), "floor": (150, 130, 110), "wall": (150, 170, 200), "beam": (255, 120, 50),
    "column": (255, 40, 200), "window": (90, 220, 255), "door": (200, 120, 60), "table": (255, 214, 10),
    "chair": (48, 209, 88), "sofa": (255, 120, 200), "bookcase": (175, 100, 255), "board": (235, 235, 235),
    "clutter": (110, 116, 126), "cabinet": (205, 165, 90), "bed": (255, 80, 70), "bookshelf": (175, 100, 255),
    "picture": (235, 235, 235), "counter": (120, 230, 160), "desk": (255, 170, 60), "curtain": (180, 90, 130),
    "refrigerator": (64, 156, 255), "shower curtain": (110, 60, 160), "toilet": (0, 230, 200), "sink": (60, 140, 140),
    "bathtub": (30, 90, 220), "otherfurniture": (130, 120, 90),
}  # fmt: skip
PART_COLORS = tuple(
    CLASS_COLORS[name] for name in ("car", "truck", "bus", "pedestrian", "construction_vehicle", "bicycle")
)
# Classes of other data sets take these in turn, by their place in the list of classes.
OTHER_COLORS = ((230, 230, 120), (120, 230, 230), (230, 120, 230), (150, 200, 120), (120, 150, 230), (230, 160, 130))

BACKGROUND = (16, 20, 26)
TEXT = (235, 235, 235)
MUTED = (120, 126, 136)
RING = (52, 58, 66)  # distance rings on the road
SIMULATED = (255, 196, 60)

HEIGHT_RANGE = (-1.0, 4.0)  # metres above the ego frame's origin (the road) over which the colour changes
POINT_COLORINGS = ("height", "intensity")


def class_color(name: str, index: int = 0) -> tuple[int, int, int]:
    """Return the colour of a class; one that the table does not have gets a colour by its index."""
    table = {**ROOM_COLORS, **SEGMENT_COLORS, **MAP_COLORS, **CLASS_COLORS}
    return table.get(name, table.get(name.lower(), OTHER_COLORS[index % len(OTHER_COLORS)]))


def point_colors(points: np.ndarray, *, by: str = "height") -> np.ndarray:
    """Return (N, 3) uint8 colours of (N, >= 4) points ``[x, y, z, intensity, ...]`` of the ego frame.

    Raises:
        ValueError: ``by`` is neither "height" nor "intensity".
    """
    if by not in POINT_COLORINGS:
        raise ValueError(f"point_colors: by must be one of {', '.join(POINT_COLORINGS)}, got {by!r}")
    if len(points) == 0:
        return np.zeros((0, 3), np.uint8)
    if by == "height":
        low, high = HEIGHT_RANGE
        value = (points[:, 2] - low) / (high - low)
    else:
        value = np.sqrt(points[:, 3] / 255)  # most returns are weak; the root spreads them
    level = np.clip(60 + 195 * value, 60, 255).astype(np.uint8)  # the darkest part would not show on the background
    return cv2.cvtColor(cv2.applyColorMap(level[:, None], cv2.COLORMAP_CIVIDIS), cv2.COLOR_BGR2RGB)[:, 0]
