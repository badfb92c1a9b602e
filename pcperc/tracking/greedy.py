# SPDX-License-Identifier: Apache-2.0
"""CenterPoint's tracker: each detection is moved back by its own velocity and takes the nearest track."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pcperc.geometry import Detections, Tracks
from pcperc.tracking.tracker import Tracker

# How far (metres) a detection of each class may lie from where its track was, for samples half a second apart.
GATES = {"bicycle": 3.0, "bus": 5.5, "car": 4.0, "motorcycle": 13.0, "pedestrian": 1.0, "trailer": 3.0, "truck": 4.0}
GATE_SECONDS = 0.5


@dataclass(frozen=True)
class _Track:
    id: int
    label: int
    centre: np.ndarray  # (2,) metres
    velocity: np.ndarray  # (2,) m/s
    missed: int = 0  # samples since it was seen


class GreedyTracker(Tracker):
    """Greedy nearest-centre matching by velocity.

    A detection, in the order given (highest score first), is moved back by velocity times the time between the samples
    and takes the nearest free track of its class within the gate. A track without a detection moves on with its
    velocity and is not reported; it ends once it was not seen for ``max_age`` samples.

    Two things differ from the published code. A sample without any detection ages the tracks instead of ending all of
    them, and times are those of the samples: where one is lost, what moved on covers the whole gap, and the gate grows
    with it.

    Args:
        classes: names by label; classes without a gate are not tracked.
        gates: metres by class for samples half a second apart.
        max_age: samples.
        min_score: detections below it are left out; the published tracker takes all.
    Raises:
        ValueError: max_age < 1, or no class has a gate.
    Source: Yin et al., Center-based 3D Object Detection and Tracking, CVPR 2021, section 4.3.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        gates: Mapping[str, float] = GATES,
        max_age: int = 3,
        min_score: float = 0.0,
    ) -> None:
        super().__init__(classes, tracked=gates, max_age=max_age)
        self.gates, self.min_score = dict(gates), min_score
        self._tracks: list[_Track] = []

    def _forget(self) -> None:
        self._tracks = []

    def _step(self, found: Detections, seconds: float) -> Tracks:
        found = found.filter(found.scores >= self.min_score)
        boxes = np.asarray(found.boxes, np.float64)
        velocity = np.nan_to_num(boxes[:, 7:9])
        gates = np.array([self.gates[self.classes[label]] for label in found.labels])
        gates = gates * max(1.0, seconds / GATE_SECONDS)
        # A track that was not seen stands where it has moved to, so every track is as old as the last sample.
        before = boxes[:, :2] - velocity * seconds
        taken = self._match(before, found.labels, gates)
        tracks, ids = [], []
        for row, (index, label) in enumerate(zip(taken, found.labels, strict=True)):
            number = self.new_id() if index < 0 else self._tracks[index].id
            tracks.append(_Track(number, int(label), boxes[row, :2], velocity[row]))
            ids.append(number)
        seen = set(taken.tolist())
        for index, track in enumerate(self._tracks):
            if index not in seen and track.missed + 1 < self.max_age:
                moved = track.centre + track.velocity * seconds
                tracks.append(replace(track, centre=moved, missed=track.missed + 1))
        self._tracks = tracks
        return Tracks(found.boxes, found.scores, found.labels, np.array(ids, np.int64))

    def _match(self, centres: np.ndarray, labels: np.ndarray, gates: np.ndarray) -> np.ndarray:
        """Return (K,) the track of each detection, -1 for none."""
        taken = np.full(len(centres), -1)
        if not self._tracks:
            return taken
        places = np.array([track.centre for track in self._tracks])
        distance = np.linalg.norm(centres[:, None] - places[None], axis=2)
        same = labels[:, None] == np.array([track.label for track in self._tracks])
        distance[~same | (distance > gates[:, None])] = np.inf
        for row in range(len(centres)):
            index = int(distance[row].argmin())
            if np.isfinite(distance[row, index]):
                taken[row] = index
                distance[:, index] = np.inf
        return taken
