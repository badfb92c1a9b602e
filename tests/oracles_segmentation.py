# SPDX-License-Identifier: Apache-2.0
"""Scores and losses of segmentation by their definitions, in plain loops and float64."""

import math

IGNORED = 255


def iou_by_sets(truth: list[int], predicted: list[int], num_classes: int) -> list[float | None]:
    """IoU of each class from the sets of points that have it and that were given it; None where both are empty."""
    scored = [i for i, label in enumerate(truth) if label != IGNORED]
    result = []
    for c in range(num_classes):
        recorded = {i for i in scored if truth[i] == c}
        given = {i for i in scored if predicted[i] == c}
        union = recorded | given
        result.append(len(recorded & given) / len(union) if union else None)
    return result


def mean_of(iou: list[float | None], absent: str, truth: list[int] = ()) -> float:
    """Mean over classes. One that is nowhere is left out or 0; "one": one that is not in the truth is 1, even where it
    is predicted, as core/callbacks.py of mit-han-lab/spvnas counts."""
    if absent == "skip":
        kept = [value for value in iou if value is not None]
        return sum(kept) / len(kept)
    if absent == "one":
        return sum(value if c in truth else 1.0 for c, value in enumerate(iou)) / len(iou)
    return sum(value or 0.0 for value in iou) / len(iou)


def cross_entropy(logits: list[list[float]], labels: list[int], weights: list[float]) -> float:
    """Weighted mean of ``-log softmax(logits)[label]`` over the points that are not ignored."""
    total = weight = 0.0
    for row, label in zip(logits, labels, strict=True):
        if label != IGNORED:
            log_sum = math.log(sum(math.exp(value) for value in row))
            total += weights[label] * (log_sum - row[label])
            weight += weights[label]
    return total / weight if weight else 0.0


def jaccard_loss(true_points: set[int], mistakes: set[int]) -> float:
    """``Delta(M) = |M| / |{y = c} or M|``, equation 6: the Jaccard loss of a class as a function of the mistakes M."""
    union = true_points | mistakes
    return len(mistakes) / len(union) if union else 0.0


def lovasz_extension(errors: list[float], true_points: set[int]) -> float:
    """Equation 8 and 9: sum over points in order of falling error of ``m_i * (Delta({1..i}) - Delta({1..i-1}))``."""
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    total, mistakes = 0.0, set()
    for i in order:
        before = jaccard_loss(true_points, mistakes)
        mistakes = mistakes | {i}
        total += errors[i] * (jaccard_loss(true_points, mistakes) - before)
    return total


def lovasz_softmax(logits: list[list[float]], labels: list[int]) -> float:
    """Equation 11 and 12: mean over the classes that occur of the extension of ``1 - f(c)`` or ``f(c)``."""
    scored = [i for i, label in enumerate(labels) if label != IGNORED]
    if not scored:
        return 0.0
    probabilities = []
    for i in scored:
        exponentials = [math.exp(value) for value in logits[i]]
        probabilities.append([value / sum(exponentials) for value in exponentials])
    losses = []
    for c in sorted({labels[i] for i in scored}):
        true_points = {k for k, i in enumerate(scored) if labels[i] == c}
        errors = [1 - f[c] if k in true_points else f[c] for k, f in enumerate(probabilities)]
        losses.append(lovasz_extension(errors, true_points))
    return sum(losses) / len(losses)
