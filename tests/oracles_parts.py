# SPDX-License-Identifier: Apache-2.0
"""Scores of parts and votes of rooms by their definitions, point by point; imports nothing of pcperc."""

from fractions import Fraction


def shape_iou(truth, predicted, parts):
    """Mean over the category's parts; a part in neither list is 1. Points whose truth is 255 are out."""
    total = Fraction(0)
    for part in parts:
        both = either = 0
        for t, p in zip(truth, predicted, strict=True):
            if t == 255:
                continue
            both += t == part and p == part
            either += t == part or p == part
        total += Fraction(both, either) if either else 1
    return total / len(parts)


def mean_of_shapes_and_of_categories(shapes):
    """``shapes``: (category, IoU) of each. The mean of all, and the mean over categories of their own means."""
    everything = sum((iou for _, iou in shapes), Fraction(0)) / len(shapes)
    categories = {category for category, _ in shapes}
    means = []
    for category in categories:
        own = [iou for other, iou in shapes if other == category]
        means.append(sum(own, Fraction(0)) / len(own))
    return everything, sum(means, Fraction(0)) / len(means)


def room_labels(blocks, num_points, num_classes, rule):
    """The class of every point: that of the largest sum of scores, or of the largest score; 255 where none is given."""
    labels = []
    for point in range(num_points):
        scores, voted = [0.0] * num_classes, False
        for block in blocks:
            for label, score, row in zip(*block, strict=True):
                if row == point and label != 255:
                    voted = True
                    scores[label] = scores[label] + score if rule == "sum" else max(scores[label], score)
        labels.append(scores.index(max(scores)) if voted else 255)
    return labels


def mean_iou_of_room(truth, predicted, num_classes):
    """Mean IoU over the classes that occur or are given, and the share of right points; 255 in the truth is out."""
    ious, right, count = [], 0, 0
    pairs = [(t, p) for t, p in zip(truth, predicted, strict=True) if t != 255]
    for name in range(num_classes):
        both = sum(t == name and p == name for t, p in pairs)
        either = sum(t == name or p == name for t, p in pairs)
        if either:
            ious.append(both / either)
        right += both
        count += sum(t == name for t, _ in pairs)
    return sum(ious) / len(ious), right / count
