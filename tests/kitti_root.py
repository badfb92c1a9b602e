# SPDX-License-Identifier: Apache-2.0
"""A small KITTI object root for tests, written by plain file operations: points on the objects that labels tell of."""

import math
import struct
import zlib
from pathlib import Path

import numpy as np

SIZE = (120, 400)  # of the images: height, width
PROJECTION = np.array([[300.0, 0, 200, 20], [0, 300, 60, 0], [0, 0, 1, 0.003]])
# Camera: x right, y down, z forward; the LiDAR, x forward, y left, z up, stands 0.3 m behind it and 0.1 m above.
LIDAR2CAMERA0 = np.array([[0.0, -1, 0, 0], [0, 0, -1, -0.1], [1, 0, 0, -0.3]])
TILT = 0.01  # of the rectification, about x

# type, truncation, occlusion, size (h, w, l), location, rotation_y
OBJECTS = {
    "000000": [
        ("Car", 0.0, 0, (1.5, 1.7, 4.0), (1.0, 1.6, 12.0), 0.4),
        ("Pedestrian", 0.0, 1, (1.7, 0.6, 0.8), (-3.0, 1.6, 9.0), -1.2),
        ("Van", 0.0, 0, (2.0, 1.9, 5.0), (5.0, 1.6, 18.0), 1.5),
    ],
    "000001": [("Cyclist", 0.0, 0, (1.7, 0.6, 1.8), (0.5, 1.6, 10.0), 2.9)],
    "000002": [],
}
SPLITS = {"sim_train": ["000000", "000001", "000002"], "sim_val": ["000000", "000001", "000002"]}


def rect() -> np.ndarray:
    cos, sin = math.cos(TILT), math.sin(TILT)
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])


def surface(size, place, turn, rng, count=80) -> np.ndarray:
    """(N, 3) points inside an object, rectified camera frame."""
    height, width, length = size
    local = rng.uniform(-0.48, 0.48, (count, 3)) * (length, height, width)
    cos, sin = math.cos(turn), math.sin(turn)
    turned = np.stack([cos * local[:, 0] + sin * local[:, 2], local[:, 1], cos * local[:, 2] - sin * local[:, 0]], 1)
    return turned + np.array(place) - (0, height / 2, 0)


def to_lidar(points: np.ndarray) -> np.ndarray:
    back = points @ rect()  # the inverse of the rectification
    return (back - LIDAR2CAMERA0[:, 3]) @ LIDAR2CAMERA0[:, :3]


def label_row(kind, truncation, occlusion, size, place, turn) -> str:
    height, width, length = size
    cos, sin = math.cos(turn), math.sin(turn)
    corners = [
        (place[0] + cos * a + sin * b, place[1] - c, place[2] - sin * a + cos * b)
        for a in (-length / 2, length / 2)
        for b in (-width / 2, width / 2)
        for c in (0, height)
    ]
    pixels = [PROJECTION[:, :3] @ corner + PROJECTION[:, 3] for corner in corners]
    u, v = [p[0] / p[2] for p in pixels], [p[1] / p[2] for p in pixels]
    box = (max(min(u), 0), max(min(v), 0), min(max(u), SIZE[1] - 1), min(max(v), SIZE[0] - 1))
    alpha = math.remainder(turn - math.atan2(place[0], place[2]), 2 * math.pi)
    numbers = [alpha, *box, *size, *place, turn]
    return f"{kind} {truncation:.2f} {occlusion} " + " ".join(f"{value:.2f}" for value in numbers)


def write_png(path: Path, size=SIZE) -> None:
    height, width = size

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = (b"\x00" + bytes(3 * width)) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def calibration_text() -> str:
    def row(name, values):
        return f"{name}: " + " ".join(f"{value:.12e}" for value in np.ravel(values))

    names = [("P0", PROJECTION), ("P2", PROJECTION), ("R0_rect", rect()), ("Tr_velo_to_cam", LIDAR2CAMERA0)]
    return "\n".join(row(*each) for each in names) + "\n\n"


def write_root(root: Path) -> Path:
    """Three frames, the last without objects; each label has a DontCare row after it."""
    folder = root / "training"
    for name in ("velodyne", "label_2", "calib", "image_2"):
        (folder / name).mkdir(parents=True)
    (root / "ImageSets").mkdir()
    for name, frames in SPLITS.items():
        (root / "ImageSets" / f"{name}.txt").write_text("\n".join(frames) + "\n")
    rng = np.random.default_rng(0)
    for frame, objects in OBJECTS.items():
        clouds = [to_lidar(surface(size, place, turn, rng)) for _, _, _, size, place, turn in objects]
        clouds.append(rng.uniform([-30, -30, -1.8], [30, 30, -1.7], (200, 3)))
        xyz = np.concatenate(clouds)
        points = np.concatenate([xyz, rng.uniform(0, 1, (len(xyz), 1))], 1).astype("<f4")
        (folder / "velodyne" / f"{frame}.bin").write_bytes(points.tobytes())
        rows = [label_row(*thing) for thing in objects]
        rows += ["DontCare -1 -1 -10 10.00 10.00 20.00 20.00 -1 -1 -1 -1000 -1000 -1000 -10"]
        (folder / "label_2" / f"{frame}.txt").write_text("\n".join(rows) + "\n")
        (folder / "calib" / f"{frame}.txt").write_text(calibration_text())
        write_png(folder / "image_2" / f"{frame}.png")
    return root
