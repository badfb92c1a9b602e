# SPDX-License-Identifier: Apache-2.0
"""What the pictures of one moment are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pcperc.geometry import Detections, MapPrediction, PointLabels, Tracks, transform_boxes, transform_points

TRUTH, PREDICTION = "truth", "prediction"
SIMULATED_DATA = "SIMULATED DATA"
TRAINED_ON_SIMULATED = "by a network that was trained on simulated data"


def origin_notes(*, simulated: bool, trained_on_simulated: bool) -> list[str]:
    """Return what must be said beside a picture of where its data, and the network of its predictions, come from."""
    notes = {SIMULATED_DATA: simulated, TRAINED_ON_SIMULATED: trained_on_simulated}
    return [text for text, holds in notes.items() if holds]


@dataclass(frozen=True)
class Frame:
    """One moment, in the recorded frames (augmentation undone).

    Attributes:
        token: name of the sample.
        scene_name: name of its scene.
        classes: class names by label.
        points: (N, 5) float32, LiDAR frame.
        lidar2ego: (4, 4).
        truth, predictions: Detections (Tracks, where boxes have numbers) of numpy arrays in the LiDAR frame, or None
            where there are none to show.
        point_labels, predicted_labels, point_instances: (N,) int64 as in docs/conventions.md, or None.
        images: V images (H, W, 3) uint8 RGB, maybe none.
        lidar2camera, camera2image, image_aug: (V, 4, 4), (V, 3, 3), (V, 3, 3) of these images.
        cameras: V names.
        true_map, predicted_map: of map segmentation, in the LiDAR frame, or None.
        map_classes: names of its classes.
        simulated: whether the data come from a simulator; every picture then says so.
        trained_on_simulated: whether the predictions are of a network that saw simulated data; likewise.
        trails: where each track was: its number to (T, 3) places in this sample's LiDAR frame, oldest first.
    """

    token: str
    scene_name: str
    classes: tuple[str, ...]
    points: np.ndarray
    lidar2ego: np.ndarray
    truth: Detections | None = None
    predictions: Detections | None = None
    point_labels: np.ndarray | None = None
    predicted_labels: np.ndarray | None = None
    point_instances: np.ndarray | None = None
    images: tuple[np.ndarray, ...] = ()
    lidar2camera: np.ndarray | None = None
    camera2image: np.ndarray | None = None
    image_aug: np.ndarray | None = None
    cameras: tuple[str, ...] = ()
    true_map: MapPrediction | None = None
    predicted_map: MapPrediction | None = None
    map_classes: tuple[str, ...] = ()
    simulated: bool = False
    trained_on_simulated: bool = False
    trails: Mapping[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def from_sample(
        cls,
        sample: dict[str, Any],
        *,
        classes: Sequence[str],
        predictions: Detections | PointLabels | MapPrediction | dict | None = None,
        map_classes: Sequence[str] = (),
        cameras: Sequence[str] = (),
        simulated: bool = False,
        trained_on_simulated: bool = False,
    ) -> Frame:
        """Make a frame of a data set's sample (docs/conventions.md), with or without transforms applied.

        Args:
            sample: ``lidar_aug`` is undone on points and boxes; boxes become the truth, with score 1.
            classes: class names by label.
            predictions: as a model returns them: boxes in the recorded LiDAR frame, a class for each point, a map, or a
                dict of such.
            map_classes: names of the classes of maps.
            cameras: names of the images, in their order.
            simulated: see Frame; a scene whose name contains "sim" is taken for simulated too.
            trained_on_simulated: see Frame.
        Raises:
            ValueError: not a class for each point.
        """
        back = np.linalg.inv(sample.get("lidar_aug", np.eye(4)))
        identity = np.array_equal(back, np.eye(4))
        points = sample.get("points", np.zeros((0, 5), np.float32))
        truth = None
        if "boxes" in sample:
            boxes = sample["boxes"] if identity else transform_boxes(sample["boxes"], back)
            truth = Detections(boxes, np.ones(len(boxes), np.float32), sample["labels"])
        images = tuple(sample.get("images", ()))
        names = tuple(cameras) or tuple(f"camera {view}" for view in range(len(images)))
        scene_name = sample.get("scene_name", "")
        told = list(predictions.values()) if isinstance(predictions, dict) else [predictions]
        found, by_point, ground = (
            next((value.numpy() for value in told if isinstance(value, kind)), None)
            for kind in (Detections, PointLabels, MapPrediction)
        )
        if by_point is not None and len(by_point) != len(points):
            raise ValueError(f"Frame: predictions must be of {len(points)} points, got {len(by_point)}")
        masks = sample.get("map_masks")
        return cls(
            token=sample.get("sample_token", ""),
            scene_name=scene_name,
            classes=tuple(classes),
            points=points if identity else transform_points(points, back),
            lidar2ego=sample.get("lidar2ego", np.eye(4)),
            truth=truth,
            predictions=found,
            point_labels=sample.get("point_labels"),
            predicted_labels=None if by_point is None else by_point.labels,
            point_instances=sample.get("point_instances"),
            images=images,
            lidar2camera=sample.get("lidar2camera"),
            camera2image=sample.get("camera2image"),
            image_aug=sample.get("image_aug"),
            cameras=names,
            true_map=None if masks is None else MapPrediction(np.asarray(masks, np.float32), sample["map_grid"]),
            predicted_map=ground,
            map_classes=tuple(map_classes),
            simulated=simulated or "sim" in scene_name.lower(),
            trained_on_simulated=trained_on_simulated,
        )

    def above(self, score_threshold: float) -> Frame:
        """Return the frame with only the predictions whose score is at least the threshold."""
        if self.predictions is None:
            return self
        return replace(self, predictions=self.predictions.filter(self.predictions.scores >= score_threshold))

    def keep(self, masks: dict[str, np.ndarray]) -> Frame:
        """Return the frame with only the boxes that ``masks`` names: (K,) bool for TRUTH and for PREDICTION."""
        kept = {kind: detections.filter(masks[kind]) for kind, detections in self.layers()}
        return replace(self, truth=kept.get(TRUTH), predictions=kept.get(PREDICTION))

    def layers(self) -> list[tuple[str, Detections]]:
        """Return what there is to draw, truth first: (TRUTH or PREDICTION, detections)."""
        layers = ((TRUTH, self.truth), (PREDICTION, self.predictions))
        return [(kind, detections) for kind, detections in layers if detections is not None]

    def labelled(self) -> list[tuple[str, np.ndarray]]:
        """Return the labels of what there is to draw, truth first: of points where these have labels, else of boxes."""
        points = ((TRUTH, self.point_labels), (PREDICTION, self.predicted_labels))
        found = [(kind, labels) for kind, labels in points if labels is not None]
        return found or [(kind, np.asarray(detections.labels)) for kind, detections in self.layers()]

    def notes(self) -> list[str]:
        """Return what must be said beside every picture of where data and predictions come from."""
        predicted = any(found is not None for found in (self.predictions, self.predicted_labels, self.predicted_map))
        network = self.trained_on_simulated and predicted
        return origin_notes(simulated=self.simulated, trained_on_simulated=network)

    def ids_of(self, kind: str) -> list[int | None]:
        """Return the track number of each box of a layer; None where boxes are not tracked."""
        detections = dict(self.layers())[kind]
        return detections.ids.tolist() if isinstance(detections, Tracks) else [None] * len(detections)

    def trails_in_ego(self) -> list[tuple[str, int, np.ndarray]]:
        """Return the trails of what there is to draw: (class, its label, (T, 3) places in the ego frame), T >= 2."""
        found = []
        for kind, detections in self.layers():
            for number, label in zip(self.ids_of(kind), np.asarray(detections.labels), strict=True):
                trail = self.trails.get(number, ())
                if kind == PREDICTION and len(trail) > 1:
                    found.append((self.classes[label], int(label), transform_points(trail, self.lidar2ego)))
        return found

    def points_in_ego(self) -> np.ndarray:
        """Return the points (N, 5) float32 in the ego frame (x forward, y left, z up from the road)."""
        return transform_points(self.points, self.lidar2ego)

    def boxes_in_ego(self, detections: Detections) -> np.ndarray:
        """Return the boxes (K, 9) in the ego frame."""
        return transform_boxes(np.asarray(detections.boxes), self.lidar2ego, upright="target")

    @property
    def file_name(self) -> str:
        """The token as part of a file's name."""
        return self.token.replace("/", "_")

    @property
    def short_name(self) -> str:
        """The same, of nuScenes' long tokens the first eight letters."""
        return self.file_name if set(self.token) & set("/.") else self.token[:8]

    def title(self) -> str:
        """Return scene and sample in one line."""
        return "  ".join(part for part in (self.scene_name, self.token) if part)
