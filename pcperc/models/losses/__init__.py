# SPDX-License-Identifier: Apache-2.0
"""Loss functions on plain tensors, one file a task."""

from pcperc.models.losses.detection import gaussian_focal_loss, sigmoid_focal_loss, weighted_l1_loss

__all__ = ["gaussian_focal_loss", "sigmoid_focal_loss", "weighted_l1_loss"]
