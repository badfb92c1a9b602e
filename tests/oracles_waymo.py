# SPDX-License-Identifier: Apache-2.0
"""Waymo's range images and AP by plain loops; nothing here imports pcperc."""

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
    """AP of one class: at each score the detections above it are matched anew.

    Args:
        frames: list of (true boxes, their levels, detected boxes, their scores).
    """
    cutoffs = sorted({float(score) for _, _, _, scores in frames for score in scores}, reverse=True)
    total = sum(int(difficulty <= level) for _, levels, _, _ in frames for difficulty in levels)
    if total == 0:
        return math.nan
    points = []
    for cutoff in cutoffs:
        hits = weight = wrong = 0.0
        for truth, levels, boxes, scores in frames:
            free = set(range(len(truth)))
            rows = [i for i in range(len(boxes)) if scores[i] >= cutoff]
            for i in sorted(rows, key=lambda i: -scores[i]):
                iou = box_iou([boxes[i]], truth, use_height=True)[0]
                best = max(free, key=lambda j: iou[j], default=None)
                if best is None or iou[best] < overlap:
                    wrong += 1
                    continue
                free.remove(best)
                if levels[best] > level:
                    continue
                turn = abs(boxes[i][6] - truth[best][6]) % (2 * math.pi)
                hits += 1
                weight += 1 - min(turn, 2 * math.pi - turn) / math.pi if by_heading else 1
        points.append((weight / total, weight / (hits + wrong) if hits + wrong else 0.0))
    area, before = 0.0, 0.0
    for k, (recall, _) in enumerate(points):
        area += (recall - before) * max(precision for _, precision in points[k:])
        before = recall
    return area
