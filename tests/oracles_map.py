# SPDX-License-Identifier: Apache-2.0
"""Map masks and their IoU in plain loops, one cell after another; nothing of pcperc."""

import math


def in_ring(ring, x, y):
    """Whether a ray to the right of (x, y) crosses the ring an odd number of times."""
    inside = False
    for (ax, ay), (bx, by) in zip(ring, [*ring[1:], ring[0]], strict=True):
        if (ay > y) != (by > y) and x < ax + (y - ay) * (bx - ax) / (by - ay):
            inside = not inside
    return inside


def segment_distance(ax, ay, bx, by, x, y):
    length = math.hypot(bx - ax, by - ay)
    if length == 0:
        return math.hypot(x - ax, y - ay)
    along = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length
    if along < 0:
        return math.hypot(x - ax, y - ay)
    if along > length:
        return math.hypot(x - bx, y - by)
    return abs((x - ax) * (by - ay) - (y - ay) * (bx - ax)) / length


def line_distance(points, x, y):
    return min(segment_distance(*a, *b, x, y) for a, b in zip(points[:-1], points[1:], strict=True))


def cells(x_bound, y_bound):
    """Column, row and centre of every cell."""
    for i in range(round((x_bound[1] - x_bound[0]) / x_bound[2])):
        for j in range(round((y_bound[1] - y_bound[0]) / y_bound[2])):
            yield i, j, x_bound[0] + (i + 0.5) * x_bound[2], y_bound[0] + (j + 0.5) * y_bound[2]


def mask(areas, lines, x_bound, y_bound, *, width, margin=1e-9):
    """Draw areas and lines by cells.

    Args:
        areas: list of (exterior, holes), rings of (x, y).
        lines: list of lists of (x, y).
        width: of lines.
    Returns:
        dict from (i, j) to True, False, or None where the centre is so near an edge that rounding decides.
    """
    result = {}
    for i, j, x, y in cells(x_bound, y_bound):
        rings = [ring for exterior, holes in areas for ring in (exterior, *holes)]
        near = any(line_distance([*ring, ring[0]], x, y) < margin for ring in rings)
        distances = [line_distance(points, x, y) for points in lines]
        on_line = any(distance <= width / 2 for distance in distances)
        near |= any(abs(distance - width / 2) < margin for distance in distances)
        in_area = any(in_ring(ext, x, y) and not any(in_ring(hole, x, y) for hole in holes) for ext, holes in areas)
        result[i, j] = None if near else in_area or on_line
    return result


def seen_from(point, *, x, y, heading, scale=1.0, mirror=False, turn=0.0, shift=(0.0, 0.0)):
    """World point in the frame of a vehicle at (x, y), then mirrored in x, turned, scaled and shifted."""
    dx, dy = point[0] - x, point[1] - y
    u = math.cos(heading) * dx + math.sin(heading) * dy
    v = -math.sin(heading) * dx + math.cos(heading) * dy
    u = -u if mirror else u
    u, v = math.cos(turn) * u - math.sin(turn) * v, math.sin(turn) * u + math.cos(turn) * v
    return scale * u + shift[0], scale * v + shift[1]


def best_iou(samples, thresholds):
    """IoU of one class over samples of (truth, probability) lists, the best over the thresholds; None if undefined."""
    best = None
    for threshold in thresholds:
        both = either = 0
        for truth, probability in samples:
            for true, p in zip(truth, probability, strict=True):
                both += bool(true) and p >= threshold
                either += bool(true) or p >= threshold
        if either:
            best = max(both / either, best or 0.0)
    return best
