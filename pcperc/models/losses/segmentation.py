# SPDX-License-Identifier: Apache-2.0
"""Losses of segmentation: a class for each point, some points without one; yes or no for each cell of a map."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcperc.geometry import IGNORED
from pcperc.models.losses.processes import mean_over_processes
from pcperc.registry import MODELS


def cross_entropy_loss(
    logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None, avg_factor: float | Tensor | None = None
) -> Tensor:
    """Softmax cross entropy over the points that have a class.

    Args:
        logits: (N, C) floating.
        labels: (N,) int64 in [0, C), or 255 for a point without a class: no loss and no gradient.
        class_weights: (C,), by which the loss of each point is multiplied; None is 1 for all.
        avg_factor: what the sum is divided by; None is the sum of the weights of the points that have a class.
    Returns:
        Scalar, float32 (float64 for float64 logits). Without any class 0, still attached to the graph.
    Raises:
        ValueError: wrong shapes, or another label.
    """
    logits, labels = _checked("cross_entropy_loss", logits, labels)
    weights = None if class_weights is None else class_weights.to(logits)
    total = F.cross_entropy(logits, labels, weights, ignore_index=IGNORED, reduction="sum")
    if avg_factor is None:
        avg_factor = labelled_weight(labels, weights)
        avg_factor = torch.where(avg_factor > 0, avg_factor, 1)
    return total / avg_factor


def labelled_weight(labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return the sum of the weights of the points that have a class, () float32; without weights their number."""
    has_class = labels != IGNORED
    if class_weights is None:
        return has_class.sum().float()
    return (class_weights[torch.where(has_class, labels, 0)] * has_class).sum()


def binary_focal_loss(logits: Tensor, target: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Focal loss of cells that belong to a class or do not: the mean of ``-(1 - p)^gamma log p``.

    Args:
        logits: any shape with at least one entry, floating; p is their sigmoid where the target is true, and one minus
            it elsewhere.
        target: bool, same shape.
        gamma: how fast cells that are right fade.
    Returns:
        Scalar, float32 (float64 for float64 logits).
    Raises:
        ValueError: the shapes differ.
    Source: Lin et al., Focal loss for dense object detection, ICCV 2017, eq. 4: without a weight of positives.
    """
    if logits.shape != target.shape:
        raise ValueError(
            f"binary_focal_loss: logits and target must have one shape, got {tuple(logits.shape)} and "
            f"{tuple(target.shape)}"
        )
    logits = logits if logits.dtype == torch.float64 else logits.float()
    towards_truth = torch.where(target.bool(), logits, -logits)
    # log p and 1 - p without a probability in between, which rounds to 0 or 1 for large logits.
    return -((-towards_truth).sigmoid() ** gamma * F.logsigmoid(towards_truth)).mean()


def lovasz_softmax_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Lovasz-softmax: a convex stand-in for ``1 - IoU``, averaged over the classes that occur.

    For class c every point errs by ``|[label = c] - softmax(logits)[c]|``. The loss is the Lovasz extension of the
    Jaccard loss at these errors: in order of falling error each is weighted by how much the Jaccard loss grows when its
    point joins the mistakes. All points of the batch count as one set.

    Args:
        logits: (N, C) floating.
        labels: (N,) int64 in [0, C), or 255 for a point without a class: no loss and no gradient.
    Returns:
        Scalar, float32 (float64 for float64 logits). Without any class 0, still attached to the graph.
    Raises:
        ValueError: wrong shapes, or another label.
    Source: Berman, Triki and Blaschko, The Lovasz-Softmax loss, CVPR 2018, equations 8 to 12.
    Deterministic: yes, on CPU and CUDA.
    """
    logits, labels = _checked("lovasz_softmax_loss", logits, labels)
    has_class = labels != IGNORED
    logits, labels = logits[has_class], labels[has_class]
    if len(labels) == 0:
        return logits.sum()
    member = F.one_hot(labels, logits.shape[1])
    errors = (member - logits.softmax(1)).abs()
    occurs = member.any(0)
    return (errors * _lovasz_weights(errors.detach(), member)).sum(0)[occurs].mean()


def _lovasz_weights(errors: Tensor, member: Tensor) -> Tensor:
    """Return by how much each point makes the Jaccard loss of each class grow, (N, C); no gradient passes.

    Args:
        errors: (N, C).
        member: (N, C) int64, 1 where the point has the class.
    """
    order = errors.argsort(dim=0, descending=True, stable=True)
    hits = member.gather(0, order).cumsum(0)  # of the class among the first points; whole numbers, so exact
    rank = torch.arange(1, len(errors) + 1, device=errors.device).unsqueeze(1)
    total = hits[-1]
    loss = 1 - (total - hits).to(errors.dtype) / (total + rank - hits)
    growth = torch.cat([loss[:1], loss.diff(dim=0)])
    return torch.empty_like(growth).scatter_(0, order, growth)


@MODELS.register_module()
class SegmentationLoss(nn.Module):
    """Cross entropy plus Lovasz-softmax, each times its factor; one of factor 0 is left out.

    The sum of the cross entropy is divided by the weight of the labelled points of all processes, so that a batch over
    several processes has the gradient of one; Lovasz-softmax, which is no sum over points, is each process's own.

    Args:
        cross_entropy, lovasz: factors >= 0, not both 0.
        class_weights: one for each class, for cross entropy; tools/class_weights.py counts a data set for them.
    Raises:
        ValueError: a negative factor, or both 0; weights that are negative or not finite, or not one for each class.
    """

    def __init__(
        self, *, cross_entropy: float = 1.0, lovasz: float = 0.0, class_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        if not (min(cross_entropy, lovasz) >= 0 and cross_entropy + lovasz > 0):
            raise ValueError(
                f"SegmentationLoss: cross_entropy and lovasz must be >= 0, one above, got {cross_entropy} and {lovasz}"
            )
        self.cross_entropy, self.lovasz = float(cross_entropy), float(lovasz)
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        if weights is not None and not (weights.isfinite() & (weights >= 0)).all():
            raise ValueError(f"SegmentationLoss: class_weights must be finite and >= 0, got {list(class_weights)}")
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return ``loss_cross_entropy`` and ``loss_lovasz`` of (N, C) logits and (N,) labels, 255 for none."""
        weights, losses = self.class_weights, {}
        if weights is not None and len(weights) != logits.shape[1]:
            raise ValueError(
                f"SegmentationLoss: class_weights must be one for each of {logits.shape[1]} classes, got {len(weights)}"
            )
        if self.cross_entropy:
            _checked("SegmentationLoss", logits, labels)
            weight = mean_over_processes(labelled_weight(labels, weights), min_total=1e-6)
            loss = cross_entropy_loss(logits, labels, class_weights=weights, avg_factor=weight)
            losses["loss_cross_entropy"] = self.cross_entropy * loss
        if self.lovasz:
            losses["loss_lovasz"] = self.lovasz * lovasz_softmax_loss(logits, labels)
        return losses


def _checked(op: str, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits in float32 or wider; on a GPU a label out of range would end the process."""
    if logits.ndim != 2 or tuple(labels.shape) != (len(logits),):
        raise ValueError(
            f"{op}: logits must be (N, C) and labels (N,), got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    wrong = (labels != IGNORED) & ((labels < 0) | (labels >= logits.shape[1]))
    if wrong.any():
        first = int(wrong.int().argmax())
        raise ValueError(
            f"{op}: labels must be in [0, {logits.shape[1]}) or {IGNORED}, got {int(labels[first])} at point {first}"
        )
    return logits if logits.dtype == torch.float64 else logits.float(), labels
