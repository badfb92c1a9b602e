# SPDX-License-Identifier: Apache-2.0
"""Colours of the hits of a calorimeter event, by cluster or by class."""

import numpy as np

from pcperc.geometry.calorimeter import HIT_CLASSES
from pcperc.visualization.colors import MUTED, OTHER_COLORS
from pcperc.visualization.event_frame import EventFrame
from pcperc.visualization.frame import PREDICTION, TRUTH

COLORINGS = ("cluster", "class")
IN_NO_CLUSTER = (92, 98, 108)
FURTHER = (214, 218, 226)  # of clusters without a colour of their own
UNKNOWN = MUTED  # where nobody said what a hit is
CLASS_COLORS = {"noise": IN_NO_CLUSTER, "electromagnetic": (64, 156, 255), "hadronic": (255, 120, 50)}
CLUSTER_COLORS = (
    *((255, 80, 70), (64, 156, 255), (48, 209, 88), (255, 214, 10), (255, 120, 200), (175, 100, 255)),
    *((0, 230, 200), (255, 140, 0), *OTHER_COLORS),
    *((200, 150, 100), (40, 150, 60), (190, 60, 130), (150, 90, 30), (0, 140, 150), (255, 190, 170)),
)
NUM_COLORED = len(CLUSTER_COLORS)  # clusters of an event, those of most energy; more would be told apart by nobody


def colors_of_hits(frame: EventFrame, *, by: str = "cluster") -> dict[str, np.ndarray]:
    """Return (N, 3) uint8 RGB for each layer of the frame.

    Args:
        by: "cluster" or "class". By cluster the `NUM_COLORED` of most energy have a colour each, others are nearly
            white; hits in none are dark grey. A predicted one has the colour of the true one that it shares most energy
            with, if that is half of its own or more and no other one has more of it. By class, noise is dark grey.
            Truth without classes, and hits with neither truth nor prediction, are `UNKNOWN`.
    Raises:
        ValueError: another name.
    """
    if by not in COLORINGS:
        raise ValueError(f"colors_of_hits: by must be one of {', '.join(COLORINGS)}, got {by!r}")
    if by == "class":
        table = np.array([CLASS_COLORS[name] for name in HIT_CLASSES], np.uint8)
        colors = {kind: table[found.labels] for kind, found in frame.layers()}
    else:
        table = np.array([*CLUSTER_COLORS, FURTHER, IN_NO_CLUSTER], np.uint8)  # the last also at index -1
        colors = {kind: table[number] for kind, number in color_numbers(frame).items()}
    unknown = np.full((len(frame.hits), 3), UNKNOWN, np.uint8)
    return {kind: unknown if is_unknown(frame, kind, by) else found for kind, found in colors.items()}


def is_unknown(frame: EventFrame, kind: str, by: str) -> bool:
    """Return whether nobody said what a layer's colours tell: of truth without classes, or of hits alone."""
    return kind not in (TRUTH, PREDICTION) or (by == "class" and kind == TRUTH and not frame.has_classes)


def color_numbers(frame: EventFrame) -> dict[str, np.ndarray]:
    """Return the number of each hit's colour for each layer: `NUM_COLORED` for further clusters, -1 for none."""
    energy, numbers = frame.hits[:, 0], {}
    for kind, clusters in frame.layers():
        number = _by_energy(clusters.instances, energy)
        if kind == PREDICTION and frame.truth is not None:
            number = _like_truth(numbers[TRUTH], number, energy)
        numbers[kind] = number
    return {kind: np.minimum(number, NUM_COLORED) for kind, number in numbers.items()}


def _by_energy(instances: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Number clusters anew from 0 by falling energy; files may number them as they like, with gaps of any size."""
    known, row = np.unique(instances, return_inverse=True)
    sums = np.bincount(row, weights=energy, minlength=len(known))
    sums[known < 0] = -1.0  # behind all clusters
    place = np.empty(len(known), np.int64)
    place[np.lexsort((known, -sums))] = np.arange(len(known))
    place[known < 0] = -1
    return place[row]


def _like_truth(truth: np.ndarray, predicted: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Number predicted clusters as the true ones that they share most energy with, if that is half of their own.

    Of several that share most with the same shower only the one with the most is numbered so: pieces are told apart.
    Others take the colours that no shower has as long as there are any. Both are numbered by falling energy.
    """
    both = (truth >= 0) & (predicted >= 0)
    rows, columns = predicted.max(initial=-1) + 1, truth.max(initial=-1) + 1
    pair = predicted[both] * (columns + 1) + truth[both]  # a column more, so that there is one
    shared = np.bincount(pair, weights=energy[both], minlength=rows * (columns + 1)).reshape(rows, columns + 1)
    most, alike = shared.max(axis=1), shared.argmax(axis=1)
    own = np.bincount(predicted[predicted >= 0], weights=energy[predicted >= 0], minlength=rows)
    matched = np.flatnonzero((most > 0) & (2 * most >= own))
    matched = matched[np.lexsort((matched, -most[matched], alike[matched]))]
    first = matched[np.append(True, np.diff(alike[matched]) != 0)[: len(matched)]]
    numbers = np.full(rows + 1, NUM_COLORED)
    free = np.arange(columns, NUM_COLORED)
    others = np.setdiff1d(np.arange(rows), first)[: len(free)]
    numbers[others] = free[: len(others)]
    numbers[first], numbers[-1] = alike[first], -1
    return numbers[predicted]
