# SPDX-License-Identifier: Apache-2.0
"""Whole rooms from predictions of their blocks: each block votes for the classes of its points."""

from __future__ import annotations

import numpy as np

from pcperc.evaluation.segmentation import IGNORED

RULES = ("sum", "highest")


class RoomVotes:
    """The votes for every point of one room.

    Args:
        num_points: N of the room. num_classes: C.
        rule: "sum" adds up the scores that each class was given; "highest" takes the class of the highest single
            score, as the code published with PVCNN does.
    Raises:
        ValueError: another rule.
    """

    def __init__(self, num_points: int, num_classes: int, *, rule: str = "sum") -> None:
        if rule not in RULES:
            raise ValueError(f"RoomVotes: rule must be one of {', '.join(RULES)}, got {rule!r}")
        self.rule = rule
        self._scores = np.zeros((num_points, num_classes), np.float32)
        self._voted = np.zeros(num_points, bool)

    def add(self, labels: np.ndarray, scores: np.ndarray, rows: np.ndarray) -> None:
        """Take the predictions of a block.

        Args:
            labels: (M,) integers in [0, C), or 255, which is no vote. scores: (M,) >= 0, the probability of that class.
            rows: (M,) the point of the room that each is; the same one may come more than once.
        Raises:
            ValueError: lengths that differ, or numbers beyond these ranges.
        """
        labels, scores, rows = np.asarray(labels), np.asarray(scores, np.float32), np.asarray(rows)
        if not (labels.ndim == 1 and labels.shape == scores.shape == rows.shape):
            got = f"{labels.shape}, {scores.shape} and {rows.shape}"
            raise ValueError(f"RoomVotes: labels, scores and rows must be (M,) of one length, got {got}")
        num_points, num_classes = self._scores.shape
        says = labels != IGNORED
        labels, scores, rows = labels[says].astype(np.int64), scores[says], rows[says].astype(np.int64)
        for name, values, limit in (("labels", labels, num_classes), ("rows", rows, num_points)):
            wrong = values[(values < 0) | (values >= limit)]
            if len(wrong):
                raise ValueError(f"RoomVotes: {name} must be in [0, {limit}), got {wrong[0]}")
        if not (scores >= 0).all():
            raise ValueError("RoomVotes: scores must be >= 0 and no NaN")
        (np.add if self.rule == "sum" else np.maximum).at(self._scores, (rows, labels), scores)
        self._voted[rows] = True

    def labels(self) -> np.ndarray:
        """Return the class of every point, (N,) int64: the lowest of equal ones, 255 where no block voted."""
        return np.where(self._voted, self._scores.argmax(1), IGNORED).astype(np.int64)
