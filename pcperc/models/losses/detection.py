# SPDX-License-Identifier: Apache-2.0
"""Losses of detection heads. Each is a sum divided by ``avg_factor``, computed in float32 or wider."""

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid_focal_loss(
    logits: Tensor, labels: Tensor, *, avg_factor: float | Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Focal loss over independent sigmoids, one per class.

    Per entry with probability p: ``-alpha (1 - p)^gamma log p`` for the true class and
    ``-(1 - alpha) p^gamma log(1 - p)`` for every other class.

    Args:
        logits: (N, C) floating.
        labels: (N,) int64 in [0, C]; C stands for background (all classes are negatives).
        avg_factor: the sum is divided by this, usually the number of positives, at least 1.
        alpha: weight of positives; gamma: how fast easy entries fade.
    Returns:
        Scalar, float32 (float64 for float64 logits). N = 0 gives 0.
    Raises:
        ValueError: wrong shapes.
    Source: Lin et al., Focal loss for dense object detection, ICCV 2017, eq. 5.
    """
    if logits.ndim != 2 or tuple(labels.shape) != (len(logits),):
        raise ValueError(
            "sigmoid_focal_loss: logits must be (N, C) and labels (N,), "
            f"got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    logits = _at_least_float32(logits)
    target = F.one_hot(labels, logits.shape[1] + 1)[:, :-1].to(logits.dtype)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid()
    missing = target * (1 - probability) + (1 - target) * probability
    weight = (target * alpha + (1 - target) * (1 - alpha)) * missing**gamma
    return (weight * cross_entropy).sum() / avg_factor


def gaussian_focal_loss(
    logits: Tensor,
    target: Tensor,
    *,
    avg_factor: float | Tensor,
    alpha: float = 2.0,
    gamma: float = 4.0,
    probability_floor: float = 1e-4,
) -> Tensor:
    """Focal loss of a heatmap whose peaks are 1 and whose surroundings fade as Gaussians.

    Per cell with probability p and target t: ``-(1 - p)^alpha log p`` where t = 1, else
    ``-(1 - t)^gamma p^alpha log(1 - p)``.

    Args:
        logits: any shape, floating.
        target: same shape, in [0, 1].
        avg_factor: the sum is divided by this, usually the number of peaks, at least 1.
        alpha: how fast easy cells fade; gamma: how fast the penalty fades near a peak.
        probability_floor: p is kept this far from 0 and 1, so that no cell gives an infinite loss; beyond it the
            gradient is zero.
    Returns:
        Scalar, float32 (float64 for float64 logits).
    Raises:
        ValueError: the shapes differ.
    Source: Law and Deng, CornerNet, ECCV 2018, eq. 1.
    """
    if logits.shape != target.shape:
        raise ValueError(
            "gaussian_focal_loss: logits and target must have one shape, "
            f"got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    logits = _at_least_float32(logits)
    probability = logits.sigmoid().clamp(probability_floor, 1 - probability_floor)
    at_peak = -((1 - probability) ** alpha) * probability.log()
    elsewhere = -((1 - target) ** gamma) * probability**alpha * (1 - probability).log()
    return torch.where(target == 1, at_peak, elsewhere).sum() / avg_factor


def weighted_l1_loss(prediction: Tensor, target: Tensor, weight: Tensor, *, avg_factor: float | Tensor) -> Tensor:
    """Sum of ``weight * |prediction - target|``; entries whose target is NaN carry no loss and no gradient.

    Args:
        prediction: (..., D) floating.
        target: same shape; NaN means unknown.
        weight: broadcasts with them, usually (D,).
        avg_factor: the sum is divided by this, usually the number of positives, at least 1.
    Returns:
        Scalar, float32 (float64 for float64 predictions). No rows give 0, still attached to the graph.
    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != target.shape:
        raise ValueError(
            "weighted_l1_loss: prediction and target must have one shape, "
            f"got {tuple(prediction.shape)} and {tuple(target.shape)}"
        )
    prediction = _at_least_float32(prediction)
    # The unknown entries leave before the subtraction: NaN times a zero weight would still be NaN.
    difference = prediction - torch.where(target.isnan(), prediction.detach(), target)
    return (difference.abs() * weight).sum() / avg_factor


def _at_least_float32(values: Tensor) -> Tensor:
    """Half precision has too few digits for the logarithm near 0 and 1."""
    return values if values.dtype == torch.float64 else values.float()
