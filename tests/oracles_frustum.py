# SPDX-License-Identifier: Apache-2.0
"""The loss of Frustum PointNets in plain loops and float64, from section 4.4 of the paper."""

import math

import numpy as np


def huber(errors, delta):
    terms = [e * e / 2 if abs(e) <= delta else delta * (abs(e) - delta / 2) for e in np.ravel(errors)]
    return sum(terms) / len(terms)


def cross_entropy(logits, labels):
    terms = [
        math.log(sum(math.exp(v - row.max()) for v in row)) + row.max() - row[k]
        for row, k in zip(logits, labels, strict=True)
    ]
    return sum(terms) / len(terms)


def corners(center, size, heading):
    """In the order of the signs of length, width and height; axes right, down, forward."""
    length, width, height = size
    ahead = np.array([math.cos(heading), 0.0, -math.sin(heading)])
    aside = np.array([math.sin(heading), 0.0, math.cos(heading)])
    down = np.array([0.0, 1.0, 0.0])
    signs = [(a, b, c) for c in (-0.5, 0.5) for b in (-0.5, 0.5) for a in (-0.5, 0.5)]
    return np.array([center + a * length * ahead + b * width * aside + c * height * down for a, b, c in signs])


def heading_bin(angle, bins):
    """The bin whose centre is nearest, and the rest in radians."""
    rests = [(angle - 2 * math.pi * h / bins + math.pi) % (2 * math.pi) - math.pi for h in range(bins)]
    best = int(np.argmin(np.abs(rests)))
    return best, rests[best]


def losses(boxes, targets, templates, factors):
    """``boxes`` and ``targets`` are dicts of arrays by the names of FrustumBoxes and FrustumTargets."""
    known = targets["mask"] != 255
    bins = boxes["heading_scores"].shape[1]
    found = [heading_bin(angle, bins) for angle in targets["heading"]]
    residual_errors, size_errors, corner_errors, centers, firsts = [], [], [], [], []
    for b, (h, rest) in enumerate(found):
        t, target, size = targets["template"][b], targets["center"][b], targets["size"][b]
        residual = boxes["heading_residuals"][b, h]
        residual_errors.append(residual - rest / (math.pi / bins))
        own = boxes["size_residuals"][b, t]
        size_errors.append(np.linalg.norm((size - templates[t]) / templates[t] - own))
        heading = 2 * math.pi * h / bins + residual * math.pi / bins
        box = corners(boxes["center"][b], templates[t] + own * templates[t], heading)
        straight = np.linalg.norm(box - corners(target, size, targets["heading"][b]), axis=1)
        turned = np.linalg.norm(box - corners(target, size, targets["heading"][b] + math.pi), axis=1)
        corner_errors += [min(a, b) for a, b in zip(straight, turned, strict=True)]
        centers.append(np.linalg.norm(boxes["center"][b] - target))
        firsts.append(np.linalg.norm(boxes["first_center"][b] - target))
    return {
        "loss_mask": cross_entropy(boxes["mask_logits"][known], targets["mask"][known]),
        "loss_center": huber(centers, 2),
        "loss_first_center": huber(firsts, 1),
        "loss_heading": cross_entropy(boxes["heading_scores"], [h for h, _ in found]),
        "loss_heading_residual": factors["heading_residual"] * huber(residual_errors, 1),
        "loss_size": cross_entropy(boxes["size_scores"], targets["template"]),
        "loss_size_residual": factors["size_residual"] * huber(size_errors, 1),
        "loss_corners": factors["corners"] * huber(corner_errors, 1),
    }
