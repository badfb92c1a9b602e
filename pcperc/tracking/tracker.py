# SPDX-License-Identifier: Apache-2.0
"""What all trackers share: one sample after the other, in a frame that stands still."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np

from pcperc.geometry import Detections, Tracks


class Tracker(ABC):
    """Follows objects through the samples of one scene.

    Args:
        classes: names by label.
        tracked: names of the classes that are followed; detections of others are left out.
        max_age: samples without a detection after which a track ends.
    Raises:
        ValueError: max_age < 1, or none of ``classes`` is followed.
    """

    def __init__(self, classes: Sequence[str], *, tracked: Iterable[str], max_age: int) -> None:
        op = type(self).__name__
        if max_age < 1:
            raise ValueError(f"{op}: max_age must be 1 or more, got {max_age}")
        tracked = set(tracked)
        self.classes, self.max_age = tuple(classes), int(max_age)
        self._is_tracked = np.array([name in tracked for name in self.classes], bool)
        if not self._is_tracked.any():
            raise ValueError(f"{op}: classes must have one of {', '.join(sorted(tracked))}, got {list(classes)}")
        self._last_id = 0
        self._time: float | None = None

    def reset(self) -> None:
        """Begin a new scene. Numbers go on, so that no two scenes share one."""
        self._time = None
        self._forget()

    def step(self, detections: Detections, timestamp: float) -> Tracks:
        """Take the detections of the next sample.

        Args:
            detections: K boxes in a frame that stands still (the world's), highest score first. A NaN velocity stands
                for none.
            timestamp: seconds.
        Returns:
            numpy: the objects that are seen in this sample, with their numbers.
        Raises:
            ValueError: a sample that is not later than the one before, a label that ``classes`` lacks, or a position,
                size or score that is not finite.
        """
        op = f"{type(self).__name__}.step"
        found = detections.numpy()
        labels = np.asarray(found.labels)
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise ValueError(f"{op}: labels must be in [0, {len(self.classes)}), got {labels.tolist()}")
        if not (np.isfinite(found.boxes[:, :7]).all() and np.isfinite(found.scores).all()):
            raise ValueError(f"{op}: boxes and scores must be finite at {timestamp} s, got NaN or infinity")
        if not np.isfinite(timestamp) or (self._time is not None and timestamp <= self._time):
            raise ValueError(f"{op}: timestamp must be later than the last, {self._time} s, got {timestamp} s")
        seconds = 0.0 if self._time is None else timestamp - self._time
        self._time = timestamp
        return self._step(found.filter(self._is_tracked[labels]), seconds)

    def new_id(self) -> int:
        """Return a number that no track has had."""
        self._last_id += 1
        return self._last_id

    @abstractmethod
    def _step(self, found: Detections, seconds: float) -> Tracks:
        """Follow the objects of tracked classes, ``seconds`` after the last sample (0 for the first)."""

    @abstractmethod
    def _forget(self) -> None:
        """End all tracks."""
