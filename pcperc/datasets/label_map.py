# SPDX-License-Identifier: Apache-2.0
"""From the label numbers in files to the ones a network is trained with, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pcperc.geometry import IGNORED


@dataclass(frozen=True)
class LabelMap:
    """Which recorded numbers make which class.

    Attributes:
        name: of the convention.
        classes: names by train id.
        train_ids: recorded number to train id, or to `IGNORED` (255). Numbers that it lacks are errors.
        recorded_ids: by train id, the number that stands for the class in a file of predictions.
    Raises:
        ValueError: a train id that ``classes`` lacks, or not one recorded number for each class.
    """

    name: str
    classes: tuple[str, ...]
    train_ids: Mapping[int, int]
    recorded_ids: tuple[int, ...]
    _table: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        wrong = [v for v in self.train_ids.values() if v != IGNORED and not 0 <= v < len(self.classes)]
        if wrong or len(self.recorded_ids) != len(self.classes):
            raise ValueError(
                f"LabelMap: train ids must be in [0, {len(self.classes)}) or {IGNORED}, with one recorded number for "
                f"each class, got {wrong} and {len(self.recorded_ids)} numbers"
            )
        table = np.full(max(self.train_ids) + 1, -1, np.int64)
        table[list(self.train_ids)] = list(self.train_ids.values())
        object.__setattr__(self, "_table", table)

    def to_train(self, recorded: np.ndarray, *, where: str | Path = "labels") -> np.ndarray:
        """Return the train ids of (N,) recorded numbers, (N,) int64.

        Args:
            recorded: integers.
            where: what an error message names, usually the file.
        Raises:
            ValueError: a number that the map lacks; the message says which and where.
        """
        recorded = np.asarray(recorded).astype(np.int64)
        known = (recorded >= 0) & (recorded < len(self._table))
        result = np.where(known, self._table[np.where(known, recorded, 0)], -1)
        if len(result) and result.min() < 0:
            first = int(np.flatnonzero(result < 0)[0])
            raise ValueError(
                f"{where}: labels must be in the map '{self.name}' ({_listed(sorted(self.train_ids))}), "
                f"got {recorded[first]} at point {first} ({(result < 0).sum()} such points)"
            )
        return result

    def to_recorded(self, labels: np.ndarray) -> np.ndarray:
        """Return the recorded numbers of (N,) train ids, (N,) int64; `IGNORED` becomes 0, which says nothing.

        Raises:
            ValueError: another number outside [0, number of classes).
        """
        labels = np.asarray(labels)
        ignored = labels == IGNORED
        wrong = labels[~ignored & ((labels < 0) | (labels >= len(self.classes)))]
        if len(wrong):
            raise ValueError(
                f"LabelMap: labels must be in [0, {len(self.classes)}) or {IGNORED}, got {wrong[0]} in {self.name}"
            )
        return np.where(ignored, 0, np.array(self.recorded_ids, np.int64)[np.where(ignored, 0, labels)])


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
