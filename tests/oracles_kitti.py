# SPDX-License-Identifier: Apache-2.0
"""KITTI's average precision in plain loops, after the definition of the benchmark; imports nothing of pcperc.

An object is a dict: type, truncation, occlusion, box (left, top, right, bottom), size (h, w, l), place (x, y, z) in the
camera's frame, turn (rotation_y), and for detections score.
"""

import math

from shapely.geometry import Polygon

HEIGHT, OCCLUSION, TRUNCATION = (40, 25, 25), (0, 1, 2), (0.15, 0.3, 0.5)
OVERLAP = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
NEIGHBOUR = {"Car": "Van", "Pedestrian": "Person_sitting", "Cyclist": None}


def footprint(thing):
    """The rectangle on the ground: corners along the length, turned about y (down), which is from x towards -z."""
    _, width, length = thing["size"]
    x, _, z = thing["place"]
    cos, sin = math.cos(thing["turn"]), math.sin(thing["turn"])
    corners = [(length / 2, width / 2), (length / 2, -width / 2), (-length / 2, -width / 2), (-length / 2, width / 2)]
    return Polygon([(x + cos * a + sin * b, z - sin * a + cos * b) for a, b in corners])


def overlap(one, other, in_space):
    a, b = footprint(one), footprint(other)
    shared = a.intersection(b).area
    if not in_space:
        return shared / (a.area + b.area - shared)
    tops = [thing["place"][1] - thing["size"][0] for thing in (one, other)]
    high = max(0.0, min(one["place"][1], other["place"][1]) - max(tops))
    volumes = a.area * one["size"][0] + b.area * other["size"][0]
    return shared * high / (volumes - shared * high)


def roles(objects, detections, name, level):
    """0 counts, 1 is ignored, -1 is of no interest."""
    truth = []
    for thing in objects:
        low = thing["box"][3] - thing["box"][1] <= HEIGHT[level]
        hard = low or thing["occlusion"] > OCCLUSION[level] or thing["truncation"] > TRUNCATION[level]
        if thing["type"] == name:
            truth.append(1 if hard else 0)
        else:
            truth.append(1 if thing["type"] == NEIGHBOUR[name] else -1)
    found = []
    for thing in detections:
        low = thing["box"][3] - thing["box"][1] < HEIGHT[level]
        found.append(1 if low else 0 if thing["type"] == name else -1)
    return truth, found


def match(objects, detections, name, level, in_space, threshold):
    """Hits and false detections at a threshold; without one, the scores of what finds a counted object."""
    truth, found = roles(objects, detections, name, level)
    assigned = [False] * len(detections)
    hits, scores = 0, []
    for thing, role in zip(objects, truth, strict=True):
        if role == -1:
            continue
        best, best_overlap, best_score, best_is_ignored = None, 0.0, -math.inf, False
        for j, other in enumerate(detections):
            if found[j] == -1 or assigned[j] or (threshold is not None and other["score"] < threshold):
                continue
            shared = overlap(thing, other, in_space)
            if shared <= OVERLAP[name]:
                continue
            if threshold is None:
                if other["score"] > best_score:
                    best, best_score = j, other["score"]
            elif found[j] == 0 and (shared > best_overlap or best_is_ignored):
                best, best_overlap, best_is_ignored = j, shared, False
            elif found[j] == 1 and best is None:
                best, best_is_ignored = j, True
        if best is None:
            continue
        assigned[best] = True
        if role == 0 and found[best] == 0:
            hits += 1
            scores.append(detections[best]["score"])
    false = 0
    for j, other in enumerate(detections):
        below = threshold is not None and other["score"] < threshold
        false += found[j] == 0 and not assigned[j] and not below
    return hits, false, scores


def average_precision(frames, name, level, in_space):
    """(R40, R11) in percent over frames of (objects, detections); None where there is nothing to find."""
    total = sum(roles(*frame, name, level)[0].count(0) for frame in frames)
    if total == 0:
        return None
    scores = sorted((s for frame in frames for s in match(*frame, name, level, in_space, None)[2]), reverse=True)
    thresholds, recall = [], 0.0
    for i, score in enumerate(scores):
        left = (i + 1) / total
        right = (i + 2) / total if i < len(scores) - 1 else left
        if right - recall < recall - left and i < len(scores) - 1:
            continue
        thresholds.append(score)
        recall += 1 / 40
    precision = [0.0] * 41
    for i, threshold in enumerate(thresholds[:41]):
        counts = [match(*frame, name, level, in_space, threshold) for frame in frames]
        hits, false = sum(c[0] for c in counts), sum(c[1] for c in counts)
        precision[i] = hits / (hits + false) if hits + false else 0.0
    precision = [max(precision[i:]) for i in range(41)]
    return 100 * sum(precision[1:]) / 40, 100 * sum(precision[::4]) / 11
