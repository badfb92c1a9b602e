# SPDX-License-Identifier: Apache-2.0
"""What the TransFusion head gives, and how far that is from the truth."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pcperc.models.bevfusion.box_coder import BoxCoder
from pcperc.models.bevfusion.target_assigner import HungarianAssigner, draw_heatmaps
from pcperc.models.bevfusion.truth import Truth
from pcperc.models.constants import constant
from pcperc.models.losses import gaussian_focal_loss, mean_over_processes, sigmoid_focal_loss, weighted_l1_loss
from pcperc.registry import MODELS


@dataclass(frozen=True)
class HeadOutput:
    """What the head says about a batch of B samples with P proposals each.

    Attributes:
        heatmap: (B, classes, X, Y) logits.
        query_labels: (B, P) int64, class of the heatmap peak that each proposal grew from.
        query_scores: (B, P) float32, value of that peak in [0, 1].
        codes: per decoder layer (B, P, 10) float32, see BoxCoder.
        logits: per decoder layer (B, P, classes) float32.
    """

    heatmap: Tensor
    query_labels: Tensor
    query_scores: Tensor
    codes: list[Tensor]
    logits: list[Tensor]


@MODELS.register_module()
class TransFusionLoss:
    """Heatmap, classification and box losses of the TransFusion head.

    Everything is computed in float32, whatever autocast says. The heatmap's loss is divided by the number of its peaks,
    the others by the number of matched proposals, both averaged over the processes: two processes then learn what one
    would at twice the batch. (As published, each process divides by its own.)

    Args:
        assigner: matches proposals with objects.
        heatmap_weight, class_weight, box_weight: weights of the three losses.
        code_weights: ten weights inside the box loss, see BoxCoder.
        min_overlap, min_radius: of the heatmap's Gaussians (see ``gaussian_radius``), overlap and cells.
    Source: Bai et al., TransFusion, CVPR 2022, sections 3.1 and 3.5.
    """

    def __init__(
        self,
        assigner: HungarianAssigner,
        *,
        heatmap_weight: float = 1.0,
        class_weight: float = 1.0,
        box_weight: float = 0.25,
        code_weights: tuple[float, ...] = (1.0,) * 8 + (0.2,) * 2,
        min_overlap: float = 0.1,
        min_radius: int = 2,
    ):
        if len(code_weights) != BoxCoder.code_size:
            raise ValueError(f"TransFusionLoss: code_weights must be {BoxCoder.code_size}, got {len(code_weights)}")
        self.assigner, self.code_weights = assigner, tuple(code_weights)
        self.heatmap_weight, self.class_weight, self.box_weight = heatmap_weight, class_weight, box_weight
        self.min_overlap, self.min_radius = min_overlap, min_radius

    def __call__(self, output: HeadOutput, samples: list[dict], box_coder: BoxCoder) -> dict[str, Tensor]:
        """Compare with the true ``boxes`` (K, 9) and ``labels`` (K,) of each sample.

        Boxes of no positive size, not finite or outside the grid are left out; NaN velocities carry no loss.

        Returns:
            ``loss_heatmap``; ``loss_cls``, ``loss_box`` and ``matched_iou`` (for the log only, the mean over all
            matched pairs) of the last layer, and of earlier ones with ``_layer<i>`` appended.
        Raises:
            ValueError: as `Truth.of`.
        """
        batch_size, device = len(output.heatmap), output.heatmap.device
        form = dict(batch_size=batch_size, num_classes=output.heatmap.shape[1], op="TransFusionLoss")
        truth = Truth.of(samples, box_coder, device, **form)
        with torch.autocast(device.type, enabled=False):
            losses = {"loss_heatmap": self._heatmap_loss(output.heatmap, truth, box_coder)}
            last = len(output.codes) - 1
            for index, (codes, logits) in enumerate(zip(output.codes, output.logits, strict=True)):
                suffix = "" if index == last else f"_layer{index}"
                for name, value in self._layer_loss(codes.float(), logits.float(), truth, box_coder).items():
                    losses[name + suffix] = value
        return losses

    def _heatmap_loss(self, heatmap: Tensor, truth: Truth, box_coder: BoxCoder) -> Tensor:
        """Loss of the (B, classes, X, Y) heatmap."""
        form = dict(num_classes=heatmap.shape[1], min_overlap=self.min_overlap, min_radius=self.min_radius)
        target = draw_heatmaps(truth, box_coder, **form)
        peaks = mean_over_processes((target == 1).sum(), min_total=1)  # stays on the device: no synchronisation
        return self.heatmap_weight * gaussian_focal_loss(heatmap, target, avg_factor=peaks)

    def _layer_loss(self, codes: Tensor, logits: Tensor, truth: Truth, box_coder: BoxCoder) -> dict[str, Tensor]:
        """Losses of one decoder layer, averaged over the matched proposals of the whole batch."""
        background = logits.shape[2]
        class_target = torch.full(logits.shape[:2], background, dtype=torch.int64, device=logits.device)
        match = self.assigner.assign(box_coder.decode(codes.detach()), logits.detach(), truth)
        proposals = match.sample_index, match.proposal_index
        class_target[proposals] = truth.labels[match.object_index]
        wanted = box_coder.encode(truth.boxes[match.object_index])
        # Filled on the device, where copying a number there would wait for it.
        positives = mean_over_processes(torch.full((), len(wanted), device=codes.device), min_total=1)
        class_loss = sigmoid_focal_loss(logits.flatten(0, 1), class_target.flatten(), avg_factor=positives)
        weight = constant(self.code_weights, codes)
        box_loss = weighted_l1_loss(codes[proposals], wanted, weight, avg_factor=positives)
        return {
            "loss_cls": self.class_weight * class_loss,
            "loss_box": self.box_weight * box_loss,
            "matched_iou": match.iou.sum() / max(len(match.iou), 1),
        }
