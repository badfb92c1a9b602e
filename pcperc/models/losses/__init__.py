# SPDX-License-Identifier: Apache-2.0
"""Loss functions on plain tensors, one file a task, and what they are divided by."""

from pcperc.models.losses.clusters import discriminative_loss, object_condensation_loss, offset_loss
from pcperc.models.losses.detection import gaussian_focal_loss, sigmoid_focal_loss, weighted_l1_loss
from pcperc.models.losses.frustum import FrustumLoss, FrustumTargets
from pcperc.models.losses.processes import mean_over_processes
from pcperc.models.losses.segmentation import (
    SegmentationLoss,
    binary_focal_loss,
    cross_entropy_loss,
    lovasz_softmax_loss,
)

__all__ = [
    "FrustumLoss",
    "FrustumTargets",
    "SegmentationLoss",
    "binary_focal_loss",
    "cross_entropy_loss",
    "discriminative_loss",
    "gaussian_focal_loss",
    "lovasz_softmax_loss",
    "mean_over_processes",
    "object_condensation_loss",
    "offset_loss",
    "sigmoid_focal_loss",
    "weighted_l1_loss",
]
