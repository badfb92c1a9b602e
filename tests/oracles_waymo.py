# SPDX-License-Identifier: Apache-2.0
"""Waymo's range images and AP by plain loops; nothing here imports pcperc."""

import itertools
import math

import numpy as np

from tests.oracles import box_iou


def point_of_pixel(image, row, column, *, lidar2vehicle, inclination, pose=None, world2vehicle=None):
    """The place of one pixel in the vehicle's frame; ``inclination`` of its row, ``pose`` of its pixel."""
    distance, width = float(image[row, column, 0]), image.shape[1]
    heading = math.atan2(lidar2vehicle[1][0], lidar2vehicle[0][0])
    azimuth = (2 * ((width - column - 0.5) / width) - 1) * math.pi - heading
    local = [
        distance * math.cos(inclination) * math.cos(azimuth),
        distance * math.cos(inclination) * math.sin(azimuth),
        distance * math.sin(inclination),
    ]
    place = np.array(lidar2vehicle) @ [*local, 1.0]
    if pose is None:
        return place[:3]
    roll, pitch, yaw, *offset = (float(v) for v in pose)
    about_x = np.array([[1, 0, 0], [0, math.cos(roll), -math.sin(roll)], [0, math.sin(roll), math.cos(roll)]])
    about_y = np.array([[math.cos(pitch), 0, math.sin(pitch)], [0, 1, 0], [-math.sin(pitch), 0, math.cos(pitch)]])
    about_z = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
    world = about_z @ about_y @ about_x @ place[:3] + offset
    return (np.array(world2vehicle) @ [*world, 1.0])[:3]


def average_precision(frames, *, overlap, level, by_heading):
    """AP of one class: at each of 101 cutoffs, of all pairings those with the largest sum of overlaps.

    Args:
        frames: list of (true boxes, their levels, detected boxes, their scores).
    """
    if not any(difficulty <= level for _, levels, _, _ in frames for difficulty in levels):
        return math.nan
    overlaps = [box_iou(boxes, truth, use_height=True) for truth, _, boxes, _ in frames]
    curve = {}
    for step in range(101):
        hits = weight = missed = count = 0
        for (truth, levels, boxes, scores), iou in zip(frames, overlaps, strict=True):
            rows = [i for i in range(len(boxes)) if scores[i] >= np.float32(step * 0.01)]
            pairs = best_pairs(iou, rows, len(truth), overlap)
            count, hits = count + len(rows), hits + len(pairs)
            for i, j in pairs:
                turn = abs(boxes[i][6] - truth[j][6]) % (2 * math.pi)
                weight += 1 - min(turn, 2 * math.pi - turn) / math.pi if by_heading else 1
            free = set(range(len(truth))) - {j for _, j in pairs}
            missed += sum(levels[j] <= level for j in free)
        if hits:
            recall = hits / (hits + missed)
            curve[recall] = max(curve.get(recall, 0), weight / count)
    area, after, highest = 0.0, None, 0.0
    for recall in [*sorted(curve, reverse=True), 0.0]:
        while after is not None and after - recall > 0.05 + 1e-6:
            area, after = area + 0.05 * highest, after - 0.05
        before, highest = highest, max(highest, curve.get(recall, 0))
        area += 0 if after is None else (after - recall) * (before + highest) / 2
        after = recall
    return area


def best_pairs(iou, rows, num_truth, overlap):
    """Pairs (detection, true box) that overlap enough, with the largest sum of overlaps, by trying all."""
    best, best_sum = [], 0.0
    for columns in itertools.permutations([*range(num_truth), *[None] * len(rows)], len(rows)):
        pairs = [(i, j) for i, j in zip(rows, columns, strict=True) if j is not None and iou[i, j] >= overlap]
        if sum(iou[i, j] for i, j in pairs) > best_sum:
            best, best_sum = pairs, sum(iou[i, j] for i, j in pairs)
    return best
