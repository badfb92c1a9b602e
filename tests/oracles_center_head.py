# SPDX-License-Identifier: Apache-2.0
"""The center head's targets, losses and boxes in plain float64 loops. Never imports pcperc."""

import itertools
import math

import numpy as np


def gaussian_radius(length, width, overlap):
    """CornerNet's three cases, each quadratic's larger root halved as the released heads do; the least of them."""
    cases = [
        (1, length + width, length * width * (1 - overlap) / (1 + overlap)),
        (4, 2 * (length + width), (1 - overlap) * length * width),
        (4 * overlap, -2 * overlap * (length + width), (overlap - 1) * length * width),
    ]
    return min((b + math.sqrt(b * b - 4 * a * c)) / 2 for a, b, c in cases)


def cell_of(box, grid):
    """The cell (x, y) of a box's centre and its place in it; None outside of the grid."""
    (x0, y0), cell, shape = grid
    place = [(box[0] - x0) / cell[0], (box[1] - y0) / cell[1]]
    index = [math.floor(value) for value in place]
    inside = all(0 <= i < n for i, n in zip(index, shape, strict=True))
    return (index, [p - i for p, i in zip(place, index, strict=True)]) if inside else None


def heatmap(boxes, labels, num_classes, grid, *, overlap, min_radius):
    """(classes, X, Y): the largest of the Gaussians of sigma (2 r + 1) / 6 around the cells that hold the centres."""
    _, cell, shape = grid
    out = np.zeros((num_classes, *shape))
    for box, label in zip(boxes, labels, strict=True):
        found = cell_of(box, grid)
        if found is None:
            continue
        radius = max(min_radius, int(gaussian_radius(box[3] / cell[0], box[4] / cell[1], overlap)))
        sigma = (2 * radius + 1) / 6
        for x, y in itertools.product(range(shape[0]), range(shape[1])):
            dx, dy = x - found[0][0], y - found[0][1]
            if max(abs(dx), abs(dy)) <= radius:
                value = math.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma))
                out[label, x, y] = max(out[label, x, y], value)
    return out


def code(box, place):
    """What is regressed in the cell of a box."""
    log_size = [math.log(value) for value in box[3:6]]
    return [*place, box[2], *log_size, math.sin(box[6]), math.cos(box[6]), box[7], box[8]]


def losses(logits, codes, truth, tasks, grid, *, overlap=0.1, min_radius=2, code_weights=(1,) * 8 + (0.2,) * 2):
    """(heatmap loss, box loss) without the factors of the two, summed over the tasks.

    Args:
        logits: (B, classes, X, Y).
        codes: (B, tasks, 10, X, Y).
        truth: per sample a list of boxes of nine numbers and a list of labels.
        tasks: lists of classes.
        grid: lower corner (x, y), cell size (x, y), shape (X, Y).
    """
    targets = np.stack(
        [heatmap(*sample, logits.shape[1], grid, overlap=overlap, min_radius=min_radius) for sample in truth]
    )
    heat_loss = box_loss = 0.0
    for number, classes in enumerate(tasks):
        total, peaks = 0.0, 0
        for b, label, x, y in itertools.product(range(len(truth)), classes, *map(range, grid[2])):
            p = min(max(1 / (1 + math.exp(-logits[b, label, x, y])), 1e-4), 1 - 1e-4)
            t = targets[b, label, x, y]
            peaks += t == 1
            total -= (1 - p) ** 2 * math.log(p) if t == 1 else (1 - t) ** 4 * p**2 * math.log(1 - p)
        heat_loss += total / max(peaks, 1)
        total, objects = 0.0, 0
        for b, (boxes, labels) in enumerate(truth):
            for box, label in zip(boxes, labels, strict=True):
                found = cell_of(box, grid)
                if label not in classes or found is None:
                    continue
                objects += 1
                wanted = code(box, found[1])
                for weight, value, goal in zip(
                    code_weights, codes[b, number, :, found[0][0], found[0][1]], wanted, strict=True
                ):
                    total += 0 if math.isnan(goal) else weight * abs(value - goal)
        box_loss += total / max(objects, 1)
    return heat_loss, box_loss


def decode(logits, codes, tasks, grid, *, max_candidates, score_threshold, post_range):
    """Per task the boxes (rows of nine numbers, score, class) of one sample's best cells, best first, ties by cell."""
    (x0, y0), cell, shape = grid
    found = []
    for number, classes in enumerate(tasks):
        cells = itertools.product(classes, *map(range, shape))
        ranked = sorted(cells, key=lambda place: -1 / (1 + math.exp(-logits[place])))  # sorted keeps ties in order
        rows = []
        for label, x, y in ranked[:max_candidates]:
            score = 1 / (1 + math.exp(-logits[label, x, y]))
            dx, dy, z, length, width, height, sin, cos, vx, vy = codes[number, :, x, y]
            center = (x0 + (x + dx) * cell[0], y0 + (y + dy) * cell[1], z)
            inside = all(low <= v <= high for v, low, high in zip(center, post_range[:3], post_range[3:], strict=True))
            if score > score_threshold and inside:
                size = [math.exp(value) for value in (length, width, height)]
                rows.append(([*center, *size, math.atan2(sin, cos), vx, vy], score, label))
        found.append(rows)
    return found


def circle_nms(centers, scores, min_distance):
    """Indices kept, best first, ties by index: nobody closer than ``min_distance`` to a better one that is kept."""
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if all(math.dist(centers[i], centers[j]) >= min_distance for j in kept):
            kept.append(i)
    return kept


def merge_views(views, overlap, threshold):
    """Weighted rotated suppression over several views of one sample.

    Args:
        views: per view a list of (box of nine numbers, score, label).
        overlap: intersection over union from above of two boxes.
    Returns:
        (box, score, label) rows, best score first.
    """
    rows = [(box, score, label, number) for number, view in enumerate(views) for box, score, label in view]
    groups = []
    for row in sorted(rows, key=lambda row: -row[1]):
        home = next((g for g in groups if g[0][2] == row[2] and overlap(g[0][0], row[0]) > threshold), None)
        if home is None:
            groups.append([row])
        else:
            home.append(row)
    merged = []
    for group in groups:
        leader, total = group[0], sum(row[1] for row in group)
        mean = [sum(row[1] * row[0][i] for row in group) / total for i in range(9)]
        sin = cos = 0.0
        for box, score, _, _ in group:
            turn = math.pi if math.cos(box[6] - leader[0][6]) < 0 else 0.0
            sin += score * math.sin(box[6] + turn)
            cos += score * math.cos(box[6] + turn)
        mean[6] = math.atan2(sin, cos)
        best = [max((row[1] for row in group if row[3] == number), default=0.0) for number in range(len(views))]
        merged.append((mean, sum(best) / len(views), leader[2]))
    return sorted(merged, key=lambda row: -row[1])
