# SPDX-License-Identifier: Apache-2.0
"""Scores of clusters by their definitions, in plain loops over sets of hits and exact fractions of float64."""

import math
from fractions import Fraction
from statistics import mean as mean_of
from statistics import stdev

HALF = Fraction(1, 2) * (1 + Fraction(1, 10**12))  # what is above one half by rounding alone does not count


def segments_of(labels: list[int], instances: list[int]) -> dict[tuple[int, int], set[int]]:
    """The hits of each (class, instance)."""
    found: dict[tuple[int, int], set[int]] = {}
    for hit, (label, instance) in enumerate(zip(labels, instances, strict=True)):
        if instance >= 0:
            found.setdefault((label, instance), set()).add(hit)
    return found


def panoptic_counts(truth, predicted, energy, *, num_classes, by_energy, weighted):
    """``[[sum of IoU, TP, FP, FN], ...]`` by class, and the matches as {true: (predicted, IoU)}."""
    size = [Fraction(value) if by_energy else Fraction(1) for value in energy]
    worth = {}
    counts = [[Fraction(0)] * 4 for _ in range(num_classes)]
    for segments in (truth, predicted):
        for hits in segments.values():
            worth[frozenset(hits)] = sum((Fraction(energy[i]) for i in hits), Fraction(0)) if weighted else Fraction(1)
    matches, taken = {}, set()
    for key, hits in truth.items():
        for other, found in predicted.items():
            union = sum((size[i] for i in hits | found), Fraction(0))
            common = sum((size[i] for i in hits & found), Fraction(0))
            if key[0] == other[0] and union > 0 and common / union > HALF:
                assert key not in matches and other not in taken, "matches are unique"
                matches[key] = (other, common / union)
                taken.add(other)
    for key, hits in truth.items():
        row, value = counts[key[0]], worth[frozenset(hits)]
        if key in matches:
            row[0] += matches[key][1] * value
            row[1] += value
        else:
            row[3] += value
    for other, found in predicted.items():
        if other not in taken:
            counts[other[0]][2] += worth[frozenset(found)]
    return [[float(value) for value in row] for row in counts], {k: (o, float(iou)) for k, (o, iou) in matches.items()}


def qualities(row: list[float]) -> list[float] | None:
    """[SQ, RQ, PQ] of a class; None without any segment."""
    iou, tp, fp, fn = row
    if tp + fp + fn == 0:
        return None
    sq = iou / tp if tp else 0.0
    rq = tp / (tp + fp / 2 + fn / 2)
    return [sq, rq, sq * rq]


def mean(rows: list[list[float] | None]) -> list[float] | None:
    """Column by column over the rows that are there; None where none is."""
    there = [row for row in rows if row is not None]
    return [sum(column) / len(there) for column in zip(*there, strict=True)] if there else None


def data_set_scores(events: list[tuple[list, ...]], classes: list[str]) -> dict[str, float]:
    """Scores by name of events (truth class, instance, predicted class, instance, energy), one entry a hit."""
    scores: dict[str, float] = {}
    for variant, by_energy, weighted in (("hits", False, False), ("energy", True, False), ("weighted", True, True)):
        how = {"num_classes": len(classes), "by_energy": by_energy, "weighted": weighted}
        counts = [
            panoptic_counts(segments_of(tc, ti), segments_of(pc, pi), energy, **how)[0]
            for tc, ti, pc, pi, energy in events
        ]
        total = [[sum(event[c][i] for event in counts) for i in range(4)] for c in range(len(classes))]
        by_class = [qualities(row) for row in total]
        rows = {f"{variant}/{name}": row for name, row in zip(classes, by_class, strict=True)}
        rows[variant] = mean(by_class)
        rows[f"{variant}/event"] = mean([mean([qualities(row) for row in event]) for event in counts])
        for name, row in rows.items():
            scores |= {
                f"{name}/{quality}": value for quality, value in zip(("SQ", "RQ", "PQ"), row or (), strict=False)
            }
    return scores


def showers(truth, predicted, energy, xyz):
    """Rows of one event, matched by energy: (energy, nearest, response or None) of each true segment, and (energy,
    distance to the nearest true segment but its own, whether it is fake) of each predicted one, in order of keys."""
    _, pairs = panoptic_counts(truth, predicted, energy, num_classes=10, by_energy=True, weighted=False)
    own = {other: key for key, (other, _) in pairs.items()}

    def total(hits):
        return math.fsum(energy[i] for i in hits)

    def centre(hits):
        weight = {i: energy[i] if total(hits) > 0 else 1.0 for i in hits}
        return [math.fsum(w * xyz[i][a] for i, w in weight.items()) / math.fsum(weight.values()) for a in range(3)]

    def nearest(hits, but):
        apart = [math.dist(centre(hits), centre(other)) for key, other in truth.items() if key != but]
        return min(apart, default=math.inf)

    rows = []
    for key in sorted(truth):
        response = total(predicted[pairs[key][0]]) / total(truth[key]) if key in pairs else None
        rows.append((total(truth[key]), nearest(truth[key], key), response))
    fakes = [(total(predicted[k]), nearest(predicted[k], own.get(k)), k not in own) for k in sorted(predicted)]
    return rows, fakes


def curve(rows, fakes, edges, column):
    """(showers, efficiency, fake rate, response, resolution) of each bin; None for what is undefined."""
    out = []
    for index, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
        last = index == len(edges) - 2

        def inside(row, low=low, high=high, last=last):
            return low <= row[column] < high or (last and row[column] == high)

        here, found = [row for row in rows if inside(row)], [row for row in fakes if inside(row)]
        responses = [row[2] for row in here if row[2] is not None]
        response = mean_of(responses) if responses else None
        out.append(
            (
                len(here),
                len(responses) / len(here) if here else None,
                sum(row[2] for row in found) / len(found) if found else None,
                response,
                stdev(responses) / response if len(responses) > 1 and response > 0 else None,
            )
        )
    return out
