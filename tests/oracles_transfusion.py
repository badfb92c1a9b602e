# SPDX-License-Identifier: Apache-2.0
"""The TransFusion head's losses in plain float64 loops, matched by trying every way. Never imports pcperc."""

import itertools
import math

import numpy as np

from tests import oracles, oracles_center_head


def decoded(code, grid):
    """The box (nine numbers) that ten regressed ones stand for; log sizes end at +-5."""
    (x0, y0), cell, _ = grid
    size = [math.exp(min(max(value, -5.0), 5.0)) for value in code[3:6]]
    place = [x0 + code[0] * cell[0], y0 + code[1] * cell[1], code[2]]
    return [*place, *size, math.atan2(code[6], code[7]), *code[8:10]]


def wanted_code(box, grid):
    (x0, y0), cell, _ = grid
    return oracles_center_head.code(box, [(box[0] - x0) / cell[0], (box[1] - y0) / cell[1]])


def pair_cost(box, logit, true_box, extent):
    """0.15 focal difference + 0.25 distance along each axis as part of the range - 0.25 overlap of volumes."""
    p = 1 / (1 + math.exp(-logit))
    focal = -0.25 * (1 - p) ** 2 * math.log(p) + 0.75 * p**2 * math.log(1 - p)
    distance = sum(abs(box[axis] - true_box[axis]) / extent[axis] for axis in range(2))
    iou = oracles.box_iou(np.array([box[:7]]), np.array([true_box[:7]]), use_height=True)[0, 0]
    return 0.15 * focal + 0.25 * distance - 0.25 * iou


def cheapest(cost):
    """Proposal of each object (rows: proposals, columns: objects, no more than proposals)."""
    proposals, objects = cost.shape
    ways = itertools.permutations(range(proposals), objects)
    return min(ways, key=lambda way: sum(cost[p, o] for o, p in enumerate(way)))


def losses(heatmap, codes, logits, truth, grid, *, overlap=0.1, min_radius=2):
    """(heatmap loss, class loss, box loss) without their factors, each over its count in the whole batch.

    Args:
        heatmap: (B, classes, X, Y) logits.
        codes: (B, P, 10); logits: (B, P, classes).
        truth: per sample a list of boxes of nine numbers, inside of the grid, and a list of labels.
        grid: lower corner (x, y), cell size (x, y), shape (X, Y).
    """
    extent = [size * count for size, count in zip(grid[1], grid[2], strict=True)]
    heat_loss = class_loss = box_loss = 0.0
    peaks = positives = 0
    for b, (boxes, labels) in enumerate(truth):
        target = oracles_center_head.heatmap(
            boxes, labels, heatmap.shape[1], grid, overlap=overlap, min_radius=min_radius
        )
        for place in np.ndindex(*target.shape):
            p, t = 1 / (1 + math.exp(-heatmap[(b, *place)])), target[place]
            peaks += t == 1
            heat_loss -= (1 - p) ** 2 * math.log(p) if t == 1 else (1 - t) ** 4 * p**2 * math.log(1 - p)
        found = [decoded(code, grid) for code in codes[b]]
        cost = [
            [pair_cost(box, logits[b, p, label], true, extent) for true, label in zip(boxes, labels, strict=True)]
            for p, box in enumerate(found)
        ]
        match = cheapest(np.array(cost).reshape(len(found), len(boxes)))
        positives += len(match)
        is_true = {(p, labels[o]) for o, p in enumerate(match)}
        for p, c in np.ndindex(*logits.shape[1:]):
            q = 1 / (1 + math.exp(-logits[b, p, c]))
            positive = (p, c) in is_true
            class_loss -= 0.25 * (1 - q) ** 2 * math.log(q) if positive else 0.75 * q**2 * math.log(1 - q)
        for o, p in enumerate(match):
            goal = wanted_code(boxes[o], grid)
            for weight, value, want in zip([1.0] * 8 + [0.2] * 2, codes[b, p], goal, strict=True):
                box_loss += 0 if math.isnan(want) else weight * abs(value - want)
    return heat_loss / max(peaks, 1), class_loss / max(positives, 1), box_loss / max(positives, 1)
