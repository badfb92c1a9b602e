# SPDX-License-Identifier: Apache-2.0
"""One simulated frame of KITTI's object benchmark: LiDAR, left colour image, calibration and labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pcperc.geometry import invert_rigid, transform_boxes
from pcperc.geometry.kitti import UPRIGHT2RECT, KITTICalibration, alpha_of, boxes_on_image, boxes_to_kitti
from pcperc.simulation.driving.camera import Renderer
from pcperc.simulation.driving.labels import actor_label
from pcperc.simulation.driving.world import World
from pcperc.simulation.semantickitti_lidar import scan
from pcperc.simulation.semantickitti_sequence import LIDAR2EGO

IMAGE_SIZE = (375, 1242)  # height, width
FOCAL, CENTRE = 721.54, (609.56, 172.85)
BASELINES = (0.0, 0.532, -0.06, 0.47)  # metres; where cameras 0 to 3 stand along x
TILT = 0.006  # radians, standard deviation of what the LiDAR and the rectification are off by
# What the benchmark calls the actors of the simulator; others, and two-wheelers without a rider, have no label.
TYPES = {
    **{"car": "Car", "pedestrian": "Pedestrian", "bicycle": "Cyclist", "truck": "Truck"},
    **{"bus": "Misc", "trailer": "Misc", "construction_vehicle": "Misc", "motorcycle": "Misc"},
}
TWO_WHEELERS = ("bicycle", "motorcycle")
# An object is labelled that shows so many pixels and is so high on the image; one that shows less is in a DontCare
# area.
FEWEST_PIXELS, LEAST_HEIGHT = 30, 12.0
VISIBLE, PARTLY = 0.8, 0.4  # shares of an object's pixels that are seen: occlusion 0, then 1, below that 2


@dataclass(frozen=True)
class Rig:
    """Calibration of one recording: ``rect`` (4, 4) and ``lidar2camera0`` (4, 4), the rotations apart as in the
    files."""

    rect: np.ndarray
    lidar2camera0: np.ndarray

    def projection(self, camera: int) -> np.ndarray:
        """Return the (3, 4) projection of camera 0 to 3."""
        u, v = CENTRE
        intrinsics = np.array([[FOCAL, 0.0, u], [0.0, FOCAL, v], [0.0, 0.0, 1.0]])
        return intrinsics @ np.array([[1.0, 0, 0, -BASELINES[camera]], [0, 1, 0, 0], [0, 0, 1, 0]])

    def calibration(self) -> KITTICalibration:
        """Return what readers make of the file."""
        return KITTICalibration(self.projection(2), self.rect @ self.lidar2camera0)

    def text(self) -> str:
        """Return the calibration file."""
        rows = {f"P{camera}": self.projection(camera) for camera in range(4)}
        rows |= {"R0_rect": self.rect[:3, :3], "Tr_velo_to_cam": self.lidar2camera0[:3]}
        rows["Tr_imu_to_velo"] = invert_rigid(LIDAR2EGO)[:3]
        return "".join(f"{name}: {' '.join(f'{value:.12e}' for value in row.ravel())}\n" for name, row in rows.items())


def make_rig(rng: np.random.Generator) -> Rig:
    """Draw the calibration of a recording: KITTI's, off by a little."""
    rect, lidar2camera0 = np.eye(4), np.eye(4)
    rect[:3, :3] = _small_rotation(rng)
    lidar2camera0[:3, :3] = _small_rotation(rng) @ UPRIGHT2RECT[:3, :3]
    lidar2camera0[:3, 3] = np.array([0.0, -0.08, -0.27]) + rng.normal(0, 0.01, 3)
    return Rig(rect, lidar2camera0)


def _small_rotation(rng: np.random.Generator) -> np.ndarray:
    rotation, _ = cv2.Rodrigues(TILT * rng.standard_normal(3))
    return rotation


@dataclass(frozen=True)
class Frame:
    """What was recorded: points (N, 4) float32, image (375, 1242, 3) uint8 RGB, and the text of the label file."""

    points: np.ndarray
    image: np.ndarray
    labels: str


def record_frame(
    world: World, t: float, rig: Rig, renderer: Renderer, rng: np.random.Generator, *, columns: int
) -> Frame:
    """Record one moment of a world; every draw happens in a fixed order.

    Args:
        t: seconds. renderer: for images of ``IMAGE_SIZE``. columns: firings of each beam of the LiDAR.
    """
    lidar2global = world.ego_pose(t) @ LIDAR2EGO
    primitives, calibration = world.primitives(t), rig.calibration()
    actor_labels = np.array([actor_label(actor, index) for index, actor in enumerate(world.actors)], np.int64)
    points, _ = scan(primitives, world.road, actor_labels, lidar2global, rng, columns=columns)
    camera2global = lidar2global @ invert_rigid(calibration.lidar2camera)
    image, _, whole, seen = renderer.render(
        primitives, world.road, world.light, camera2global, calibration.camera2image,
        seed=world.seed, actors=len(world.actors), rng=rng,
    )  # fmt: skip
    global2upright = calibration.lidar2upright @ invert_rigid(lidar2global)
    boxes = np.array([actor.box(t) for actor in world.actors]).reshape(-1, 7)
    rows = label_rows(world, transform_boxes(boxes, global2upright), calibration, whole, seen)
    return Frame(points, image, "".join(f"{row}\n" for row in rows))


def label_rows(
    world: World, boxes: np.ndarray, calibration: KITTICalibration, whole: np.ndarray, seen: np.ndarray
) -> list[str]:
    """Return the rows of the label file, the nearest object first and DontCare last.

    Args:
        boxes: (A, 7) of all actors, upright camera frame.
        whole, seen: (A,) pixels that each would cover alone and that it shows.
    """
    height, width = IMAGE_SIZE
    rectangles = boxes_on_image(boxes, calibration)
    limits = np.array([width - 1, height - 1, width - 1, height - 1], np.float64)
    cut = np.clip(rectangles, 0.0, limits)
    sizes, locations, rotations_y = boxes_to_kitti(boxes)
    alpha, labelled, ignored = alpha_of(boxes), [], []
    for k in np.argsort(boxes[:, 0], kind="stable"):
        actor, pixels = world.actors[k], int(seen[k])
        rider = actor.name not in TWO_WHEELERS or actor.resting == "cycle.with_rider"
        if actor.name not in TYPES or not rider or pixels == 0 or not _has_area(cut[k]):
            continue
        if pixels < FEWEST_PIXELS or cut[k, 3] - cut[k, 1] < LEAST_HEIGHT:
            ignored.append(cut[k])
            continue
        truncation = 1 - _area(cut[k]) / _area(rectangles[k])
        share = pixels / max(int(whole[k]), 1)
        occlusion = 0 if share > VISIBLE else 1 if share > PARTLY else 2
        numbers = (alpha[k], *cut[k], *sizes[k], *locations[k], rotations_y[k])
        head = f"{TYPES[actor.name]} {truncation:.2f} {occlusion}"
        labelled.append(" ".join([head, *(f"{value:.2f}" for value in numbers)]))
    unknown = "-1 -1 -1 -1000 -1000 -1000 -10"
    return labelled + [f"DontCare -1 -1 -10 {' '.join(f'{value:.2f}' for value in box)} {unknown}" for box in ignored]


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _has_area(box: np.ndarray) -> bool:
    """Whether a rectangle keeps an area when it is written with two digits; NaN has none."""
    return bool(box[2] - box[0] > 0.02 and box[3] - box[1] > 0.02)


def write_frame(folder: Path, name: str, frame: Frame, rig: Rig) -> None:
    """Write the four files of a frame into ``folder``, such as training/."""
    (folder / "velodyne" / f"{name}.bin").write_bytes(frame.points.astype("<f4").tobytes())
    (folder / "label_2" / f"{name}.txt").write_text(frame.labels, encoding="utf-8")
    (folder / "calib" / f"{name}.txt").write_text(rig.text(), encoding="utf-8")
    done, png = cv2.imencode(".png", frame.image[..., ::-1])
    if not done:
        raise RuntimeError(f"simulate: the image of frame {name} cannot be encoded")
    (folder / "image_2" / f"{name}.png").write_bytes(png.tobytes())
