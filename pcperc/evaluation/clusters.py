# SPDX-License-Identifier: Apache-2.0
"""Scores of clusters of hits: from (class, instance) of each hit to SQ, RQ and PQ by hits and by energy.

A *segment* is all hits of an event with the same class and the same instance; hits of instance < 0 (noise, or left
over) are in none, but those of them that are in a predicted segment enlarge its union with a true one. A predicted and
a true segment match where they have the same class and ``IoU > 0.5``. Two segments cannot both have more than half of
their union with a third in common, so that matches are unique, and no assignment is solved.
IoU is the weight of the common hits over that of all hits of both: the weight of a hit is 1 ("by hits") or its energy.

    SQ = sum of IoU / TP     RQ = TP / (TP + FP / 2 + FN / 2)     PQ = SQ RQ

Source: Kirillov et al., Panoptic Segmentation, CVPR 2019, equations 1 and 2. Beside them wSQ, wRQ, wPQ, in which a
segment counts with its energy instead of 1: ``wSQ = sum E IoU / sum E`` over matched true segments, TP and FN are
energies of true segments, FP that of predicted ones. The code published for calorimeters (mit-han-lab/calo-cluster) has
no wSQ: its weighted TP is the common energy, and its wPQ is wRQ times the plain SQ. Its TQ is not computed here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

COUNTS = ("iou", "tp", "fp", "fn")
QUALITIES = ("SQ", "RQ", "PQ")
ROUNDING = 1e-12  # sums of energies in another order: an IoU of one half is none above it, and matches stay unique


class Segments(NamedTuple):
    """Segments of one event, (S,) each, ordered by class and instance.

    Attributes:
        label: class. instance: as given. hits: how many. energy: sum over them.
    """

    label: np.ndarray
    instance: np.ndarray
    hits: np.ndarray
    energy: np.ndarray


class Matches(NamedTuple):
    """What was found of one event.

    Attributes:
        truth, predicted: segments, S and T of them. matched: (S,) index of the predicted segment, -1 for none.
        iou: (S,) float64, 0 where there is no match. matched_truth: (T,) index of the true segment, -1 for none.
    """

    truth: Segments
    predicted: Segments
    matched: np.ndarray
    iou: np.ndarray
    matched_truth: np.ndarray


def match_clusters(
    truth_class: np.ndarray,
    truth_instance: np.ndarray,
    predicted_class: np.ndarray,
    predicted_instance: np.ndarray,
    energy: np.ndarray,
    *,
    by_energy: bool = False,
) -> Matches:
    """Match the segments of one event by the rule of this module.

    Args:
        truth_class, truth_instance, predicted_class, predicted_instance: (N,) integers; N = 0 is an event without hits.
            Classes are >= 0; the class of a hit without instance (< 0) counts nowhere.
        energy: (N,) >= 0, finite; by hits it is only summed up for the segments.
        by_energy: weight hits by energy in the IoU. A union without energy counts as IoU 0.
    Raises:
        ValueError: lengths that differ, labels that are not integers, a negative class of a hit that has an instance,
            or an energy that is negative or not finite.
    """
    columns = {
        "truth_class": np.asarray(truth_class),
        "truth_instance": np.asarray(truth_instance),
        "predicted_class": np.asarray(predicted_class),
        "predicted_instance": np.asarray(predicted_instance),
    }
    energy = _checked_energy(energy)
    for name, values in columns.items():
        if values.shape != energy.shape:
            raise ValueError(f"match_clusters: {name} must be {energy.shape}, one a hit, got {values.shape}")
        if values.dtype.kind not in "iu" and values.size:
            raise ValueError(f"match_clusters: {name} must be integers, got {values.dtype}")
    truth, truth_of = _segments(*list(columns.values())[:2], energy, "truth_class")
    predicted, predicted_of = _segments(*list(columns.values())[2:], energy, "predicted_class")
    weight = energy if by_energy else np.ones_like(energy)
    common, pair_truth, pair_predicted = _overlaps(truth_of, predicted_of, weight, len(predicted.hits))
    sizes = [_sums(of, weight, len(s.hits)) for of, s in ((truth_of, truth), (predicted_of, predicted))]
    union = sizes[0][pair_truth] + sizes[1][pair_predicted] - common
    good = (truth.label[pair_truth] == predicted.label[pair_predicted]) & (2 * common > union * (1 + ROUNDING))
    matched, iou = np.full(len(truth.hits), -1), np.zeros(len(truth.hits))
    matched_truth = np.full(len(predicted.hits), -1)
    matched[pair_truth[good]], matched_truth[pair_predicted[good]] = pair_predicted[good], pair_truth[good]
    iou[pair_truth[good]] = common[good] / union[good]
    return Matches(truth, predicted, matched, iou, matched_truth)


def _checked_energy(energy: np.ndarray) -> np.ndarray:
    energy = np.asarray(energy, np.float64)
    if energy.ndim != 1:
        raise ValueError(f"match_clusters: energy must be (N,), got {energy.shape}")
    wrong = ~(np.isfinite(energy) & (energy >= 0))
    if wrong.any():
        raise ValueError(f"match_clusters: energy must be finite and >= 0, got {energy[wrong][0]}")
    return energy


def _segments(label: np.ndarray, instance: np.ndarray, energy: np.ndarray, name: str) -> tuple[Segments, np.ndarray]:
    """Return the segments of a partition, and the one that each hit is in, (N,), -1 for none."""
    inside = instance >= 0
    if (label[inside] < 0).any():
        raise ValueError(f"match_clusters: {name} of a hit with an instance must be >= 0, got {label[inside].min()}")
    rows = np.stack([label[inside], instance[inside]], axis=1).astype(np.int64)
    found, index = np.unique(rows, axis=0, return_inverse=True)
    segment = np.full(len(label), -1)
    segment[inside] = index.reshape(-1)
    hits = np.bincount(segment[inside], minlength=len(found))
    return Segments(found[:, 0], found[:, 1], hits, _sums(segment, energy, len(found))), segment


def _sums(segment: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    inside = segment >= 0
    return np.bincount(segment[inside], weights=weight[inside], minlength=count)


def _overlaps(
    truth_of: np.ndarray, predicted_of: np.ndarray, weight: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the common weight of each pair of segments that share a hit, and the two segments."""
    both = (truth_of >= 0) & (predicted_of >= 0)
    key, index = np.unique(truth_of[both] * max(count, 1) + predicted_of[both], return_inverse=True)
    common = np.bincount(index, weights=weight[both], minlength=len(key))
    return common, key // max(count, 1), key % max(count, 1)


def count_matches(matches: Matches, *, num_classes: int, weighted: bool = False) -> np.ndarray:
    """Sum up an event by class; sums over events add.

    Args:
        matches: of `match_clusters`. num_classes: C. weighted: a segment counts with its energy instead of 1.
    Returns:
        (C, 4) float64, columns `COUNTS`: sum of IoU over true positives, true positives, false positives and
        false negatives.
    Raises:
        ValueError: a class >= num_classes.
    """
    truth, predicted = matches.truth, matches.predicted
    for name, segments in (("truth", truth), ("predicted", predicted)):
        if segments.label.max(initial=0) >= num_classes:
            raise ValueError(f"count_matches: {name} classes must be < {num_classes}, got {segments.label.max()}")
    of_truth = truth.energy if weighted else np.ones(len(truth.hits))
    of_predicted = predicted.energy if weighted else np.ones(len(predicted.hits))
    found = matches.matched >= 0
    columns = (
        (truth.label[found], (matches.iou * of_truth)[found]),
        (truth.label[found], of_truth[found]),
        (predicted.label[matches.matched_truth < 0], of_predicted[matches.matched_truth < 0]),
        (truth.label[~found], of_truth[~found]),
    )
    return np.stack([np.bincount(label, weights=value, minlength=num_classes) for label, value in columns], axis=1)


def qualities(counts: np.ndarray) -> np.ndarray:
    """Return SQ, RQ and PQ.

    Args:
        counts: (..., 4) as of `count_matches`, of one event or summed over events.
    Returns:
        (..., 3) float64 in [0, 1]. Without a true or predicted segment all three are NaN; with segments but no match
        they are 0, as in the published panoptic evaluation.
    """
    iou, tp, fp, fn = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    total = tp + 0.5 * fp + 0.5 * fn
    with np.errstate(invalid="ignore", divide="ignore"):
        sq, rq = np.where(tp > 0, iou / tp, 0.0), np.where(total > 0, tp / total, 0.0)
    return np.where((total > 0)[..., None], np.stack([sq, rq, sq * rq], axis=-1), np.nan)


def mean_qualities(counts: np.ndarray) -> np.ndarray:
    """Return the mean of SQ, RQ and PQ over the classes that are present, (3,); NaN where none is.

    A class is present where it has a true or a predicted segment.
    """
    values = qualities(counts)
    present = ~np.isnan(values[:, 2])
    return values[present].mean(axis=0) if present.any() else np.full(3, np.nan)
