# SPDX-License-Identifier: Apache-2.0
"""A class for a whole cloud: the network and the form that training and testing call."""

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from pcperc import ops
from pcperc.geometry import IGNORED, CloudClass
from pcperc.models.losses import SegmentationLoss
from pcperc.registry import MODELS


@MODELS.register_module()
class CloudClassifier(BaseModel):
    """The category of every cloud, by a network that sees clouds of fixed size.

    In testing the mean probability over the clouds that were drawn of a sample counts.

    Args:
        data_preprocessor: a CloudPreprocessor without categories: they are what is looked for.
        backbone: PointTensor to a logit for each class and cloud, (B, C).
        loss: logits (B, C) and labels (B,) to a dict of scalars; None is cross entropy.
    """

    def __init__(self, data_preprocessor: nn.Module, backbone: nn.Module, loss: nn.Module | None = None):
        super().__init__(data_preprocessor)
        self.backbone, self.loss = backbone, SegmentationLoss() if loss is None else loss

    def forward(self, inputs: dict, samples: list[dict] | None = None, mode: str = "tensor"):
        """Run the network on a prepared batch.

        Args:
            inputs, samples: the batch as of the data preprocessor; docs/conventions.md lists the keys.
            mode: what to return.
        Returns:
            "tensor": logits (V, C) of ``inputs["clouds"]``. "loss": dict of scalars. "predict": list of B CloudClass;
            a sample without points has label 255 and score 0.
        Raises:
            ValueError: another mode; for a loss, a sample without ``category``, which the message names.
        """
        if mode not in ("tensor", "loss", "predict"):
            raise ValueError(f"CloudClassifier: mode must be 'tensor', 'loss' or 'predict', got {mode!r}")
        clouds = inputs["clouds"]
        if mode == "predict":
            return self._predict(inputs)
        logits = self.backbone(clouds.points())
        if mode == "tensor":
            return logits
        for sample in samples or [{}]:
            if "category" not in sample:
                raise ValueError(f"CloudClassifier: sample {sample.get('sample_token')} must have a category, has none")
        labels = torch.tensor([int(sample["category"]) for sample in samples], device=logits.device)
        return self.loss(logits, labels[clouds.item])

    def _predict(self, inputs: dict) -> list[CloudClass]:
        clouds, count = inputs["clouds"], len(inputs["points"])
        if len(clouds.xyz) == 0:
            return [CloudClass(IGNORED, 0.0)] * count
        items = ops.make_segments(clouds.item, num_segments=count)
        mean = ops.segment_reduce(self.backbone(clouds.points()).float().softmax(1), items, mode="mean")
        scores, labels = _known(*mean.max(1), items.starts.diff())
        return [CloudClass(*both) for both in zip(labels.tolist(), scores.tolist(), strict=True)]


def _known(scores: Tensor, labels: Tensor, clouds: Tensor) -> tuple[Tensor, Tensor]:
    """Say nothing of samples that no cloud was drawn of."""
    return scores.masked_fill(clouds == 0, 0.0), labels.masked_fill(clouds == 0, IGNORED)
