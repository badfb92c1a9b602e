# SPDX-License-Identifier: Apache-2.0
"""A Kalman filter for each object, matched to detections by distance and overlap, all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from pcperc.geometry import Detections, Tracks
from pcperc.ops import box_iou_bev, nms_bev
from pcperc.tracking.tracker import Tracker

# Standard deviation of the acceleration (m/s^2) of each class: how much of a surprise its motion may be.
ACCELERATIONS = {
    "bicycle": 2.0, "bus": 2.0, "car": 3.0, "motorcycle": 4.0, "pedestrian": 1.5, "trailer": 2.0, "truck": 2.5,
}  # fmt: skip
POSITION_NOISE = 0.4  # metres: how far a detector's centres scatter
VELOCITY_NOISE = 2.0  # m/s: predicted velocities are poor
UNKNOWN_VELOCITY = 8.0  # m/s, of a detection that does not tell any
GATE = 16.0  # squared Mahalanobis distance of a position: beyond, with two degrees of freedom, lie 0.03 % of all


@dataclass
class _Track:
    id: int
    label: int
    state: np.ndarray  # (4,) x, y, vx, vy
    covariance: np.ndarray  # (4, 4)
    box: np.ndarray  # (9,) as last detected
    missed: int = 0  # samples since it was seen


class KalmanTracker(Tracker):
    """Constant-velocity Kalman filters in the plane, Hungarian matching.

    Detections below ``min_score`` and those that overlap a better one of their class are left out. A track expects its
    object at the predicted place; a detection within the gate (a Mahalanobis distance, so that it widens with what is
    not known: after a missed sample, for a new track) costs its squared distance, as part of the gate, plus one minus
    the overlap with the predicted box. The cheapest assignment of each class is taken. Position and velocity of a
    detection both correct the state; size, height and heading are those of the detection.

    Args:
        classes: names by label; classes without an acceleration are not tracked.
        accelerations: m/s^2 by class, standard deviation.
        max_age: samples without a detection after which a track ends.
        min_score: detections below it are left out.
        nms_iou: overlap seen from above beyond which the worse of two detections of a class is left out.
    Raises:
        ValueError: max_age < 1, or no class has an acceleration.
    Source: Weng et al., 3D Multi-Object Tracking: A Baseline and New Evaluation Metrics, IROS 2020 (the filter); Chiu
        et al., Probabilistic 3D Multi-Object Tracking for Autonomous Driving, 2020 (the Mahalanobis distance).
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        accelerations: Mapping[str, float] = ACCELERATIONS,
        max_age: int = 3,
        min_score: float = 0.05,
        nms_iou: float = 0.2,
    ) -> None:
        super().__init__(classes, tracked=accelerations, max_age=max_age)
        self.accelerations = dict(accelerations)
        self.min_score, self.nms_iou = min_score, nms_iou
        self._tracks: list[_Track] = []

    def _forget(self) -> None:
        self._tracks = []

    def _step(self, found: Detections, seconds: float) -> Tracks:
        found = found.filter(found.scores >= self.min_score)
        found = found.filter(self._without_doubles(found))
        for track in self._tracks:
            self._predict(track, seconds)
        boxes = np.array(found.boxes, np.float64)
        ids = np.zeros(len(boxes), np.int64)
        seen = set()
        for label in np.unique(found.labels):
            rows = np.flatnonzero(found.labels == label)
            tracks = [track for track in self._tracks if track.label == label]
            for row, track in self._match(boxes[rows], tracks):
                self._correct(track, boxes[rows[row]])
                ids[rows[row]] = track.id
                seen.add(track.id)
        for row in np.flatnonzero(ids == 0):
            track = self._begin(boxes[row], int(found.labels[row]))
            self._tracks.append(track)
            ids[row] = track.id
            seen.add(track.id)
        by_id = {track.id: track for track in self._tracks}
        for row, number in enumerate(ids.tolist()):
            boxes[row, [0, 1, 7, 8]] = by_id[number].state
        for track in self._tracks:
            track.missed = 0 if track.id in seen else track.missed + 1
        self._tracks = [track for track in self._tracks if track.missed < self.max_age]
        return Tracks(boxes, found.scores, found.labels, ids)

    def _without_doubles(self, found: Detections) -> np.ndarray:
        """Return the rows that no better one of their class overlaps, in their order."""
        kept = []
        for label in np.unique(found.labels):
            rows = np.flatnonzero(found.labels == label)
            boxes = torch.from_numpy(np.array(found.boxes[rows, :7], np.float64))
            best = nms_bev(boxes, torch.from_numpy(found.scores[rows]), iou_threshold=self.nms_iou)
            kept.append(rows[best.numpy()])
        return np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)

    def _begin(self, box: np.ndarray, label: int) -> _Track:
        known = np.isfinite(box[7:9]).all()
        speed = VELOCITY_NOISE if known else UNKNOWN_VELOCITY
        state = np.array([box[0], box[1], *(box[7:9] if known else (0.0, 0.0))])
        covariance = np.diag([POSITION_NOISE**2] * 2 + [speed**2] * 2)
        return _Track(self.new_id(), label, state, covariance, box)

    def _predict(self, track: _Track, seconds: float) -> None:
        """Move a track on; the unknown acceleration is constant over the time between two samples."""
        motion = np.eye(4)
        motion[0, 2] = motion[1, 3] = seconds
        push = np.vstack([np.eye(2) * seconds**2 / 2, np.eye(2) * seconds])
        sigma = self.accelerations[self.classes[track.label]]
        track.state = motion @ track.state
        track.covariance = motion @ track.covariance @ motion.T + sigma**2 * push @ push.T

    def _match(self, boxes: np.ndarray, tracks: list[_Track]) -> list[tuple[int, _Track]]:
        """Return which detection (row of ``boxes``) belongs to which track."""
        if not tracks or not len(boxes):
            return []
        states = np.array([track.state for track in tracks])
        spreads = np.array([track.covariance[:2, :2] for track in tracks]) + np.eye(2) * POSITION_NOISE**2
        offset = boxes[:, None, :2] - states[None, :, :2]
        distance = np.einsum("dti,tij,dtj->dt", offset, np.linalg.inv(spreads), offset)
        expected = np.array([track.box[:7] for track in tracks])
        expected[:, :2] = states[:, :2]
        overlap = box_iou_bev(torch.from_numpy(np.ascontiguousarray(boxes[:, :7])), torch.from_numpy(expected)).numpy()
        # What is outside the gate costs more than any number of pairs inside, and is dropped afterwards.
        cost = np.where(distance < GATE, distance / GATE + 1 - overlap, 1e6)
        pairs = zip(*linear_sum_assignment(cost), strict=True)
        return [(int(row), tracks[column]) for row, column in pairs if distance[row, column] < GATE]

    def _correct(self, track: _Track, box: np.ndarray) -> None:
        """Update a track by the position and, where it is known, the velocity of a detection."""
        count = 4 if np.isfinite(box[7:9]).all() else 2
        measured = box[[0, 1, 7, 8]][:count]
        noise = np.diag([POSITION_NOISE**2] * 2 + [VELOCITY_NOISE**2] * 2)[:count, :count]
        gain = np.linalg.solve(track.covariance[:count, :count] + noise, track.covariance[:count]).T
        track.state = track.state + gain @ (measured - track.state[:count])
        track.covariance = track.covariance - gain @ track.covariance[:count]
        track.box = box
