# SPDX-License-Identifier: Apache-2.0
"""Networks that read clouds of fixed size, in the form that training and testing call."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from pcperc import ops
from pcperc.geometry import IGNORED, PointLabels
from pcperc.models.cloud_preprocessor import Clouds
from pcperc.models.losses import SegmentationLoss
from pcperc.models.segmentor import for_recorded_points, point_labels_of
from pcperc.registry import MODELS

# How many parts each of ShapeNet-Part's 16 categories has; their labels follow one another.
SHAPENET_PARTS = (4, 2, 2, 4, 4, 3, 3, 2, 4, 2, 6, 2, 3, 3, 3, 3)


@MODELS.register_module()
class CloudSegmentor(BaseModel):
    """A class for every point, by a network that sees clouds of fixed size.

    In testing a point that is in several clouds takes the class of the most probable of them, as published.

    Args:
        data_preprocessor: a CloudPreprocessor.
        backbone: PointTensor, and the categories of its clouds where the preprocessor has them, to a PointTensor with a
            logit for each class.
        loss: logits (R, C) and labels (R,) to a dict of scalars; None is cross entropy alone.
        parts: how many classes each category has, one after the other; a point is then given one of its category,
            which the preprocessor must tell.
        clouds_at_once: in testing.
    Raises:
        ValueError: clouds_at_once < 1; a number of ``parts`` < 1, or parts beside a preprocessor without categories.
    """

    def __init__(
        self,
        data_preprocessor: nn.Module,
        backbone: nn.Module,
        loss: nn.Module | None = None,
        *,
        parts: Sequence[int] | None = None,
        clouds_at_once: int = 32,
    ):
        super().__init__(data_preprocessor)
        if clouds_at_once < 1:
            raise ValueError(f"CloudSegmentor: clouds_at_once must be >= 1, got {clouds_at_once}")
        self.backbone, self.clouds_at_once = backbone, int(clouds_at_once)
        self.loss = SegmentationLoss() if loss is None else loss
        if parts is not None:
            _check_parts(parts, data_preprocessor)
        category = None if parts is None else torch.tensor([i for i, count in enumerate(parts) for _ in range(count)])
        self.register_buffer("class_category", category, persistent=False)  # (C,)

    def forward(self, inputs: dict, samples: list[dict] | None = None, mode: str = "tensor"):
        """Run the network on a prepared batch.

        Args:
            inputs, samples: the batch as of the data preprocessor; docs/conventions.md lists the keys.
            mode: what to return.
        Returns:
            "tensor": logits (R, C) of the rows of ``inputs["clouds"]``. "loss": dict of scalars. "predict": list of B
            PointLabels for every recorded point.
        Raises:
            ValueError: another mode; ``parts`` that are in all more or fewer than the backbone has classes; for a loss,
                not a label for each point of a sample, which the message names.
        """
        if mode not in ("tensor", "loss", "predict"):
            raise ValueError(f"CloudSegmentor: mode must be 'tensor', 'loss' or 'predict', got {mode!r}")
        clouds = inputs["clouds"]
        if mode == "predict":
            return self._predict(clouds, inputs["points"], samples)
        logits = self._logits(clouds, 0, None)
        if mode == "tensor":
            return logits
        labels = point_labels_of("CloudSegmentor", inputs, samples)
        return self.loss(logits, labels[clouds.point.flatten()])

    def _logits(self, clouds: Clouds, first: int, last: int | None) -> Tensor:
        told = () if clouds.categories is None else (clouds.categories[first:last],)
        logits = self.backbone(clouds.points(first, last), *told).feats
        if self.class_category is not None and logits.shape[1] != len(self.class_category):
            parts = f"parts must be as many in all as the backbone has classes, {logits.shape[1]}"
            raise ValueError(f"CloudSegmentor: {parts}, got {len(self.class_category)}")
        return logits

    def _predict(self, clouds: Clouds, points: list[Tensor], samples: list[dict] | None) -> list[PointLabels]:
        step = self.clouds_at_once
        rows = [self._probabilities(clouds, first, first + step) for first in range(0, len(clouds.xyz), step)]
        sizes = [len(cloud) for cloud in points]
        if rows:
            seen = ops.make_segments(clouds.point.flatten(), num_segments=sum(sizes))
            scores, labels = ops.segment_reduce(torch.cat(rows), seen, mode="max").max(1)
        else:
            scores, labels = clouds.xyz.new_zeros(sum(sizes)), clouds.point.new_full((sum(sizes),), IGNORED)
        samples = samples or [{}] * len(points)
        parts = zip(samples, labels.split(sizes), scores.split(sizes), strict=True)
        return [for_recorded_points(sample, *part) for sample, *part in parts]

    def _probabilities(self, clouds: Clouds, first: int, last: int) -> Tensor:
        """Return the probability of each class, (R, C) float32; 0 for classes of other categories."""
        found = self._logits(clouds, first, last).float().softmax(1)
        if self.class_category is None:
            return found
        allowed = self.class_category == clouds.categories[first:last, None]
        return found * allowed.repeat_interleave(clouds.xyz.shape[1], 0)


def _check_parts(parts: Sequence[int], data_preprocessor: nn.Module) -> None:
    """Require one part or more of each category, and categories; those of the data are compared before training."""
    if not parts or any(int(count) != count or count < 1 for count in parts):
        raise ValueError(f"CloudSegmentor: parts must be whole numbers >= 1, one of each category, got {tuple(parts)}")
    if getattr(data_preprocessor, "num_categories", None) == 0:
        got = f"parts of {len(parts)} and a {type(data_preprocessor).__name__} that tells none"
        raise ValueError(f"CloudSegmentor: parts are of categories, which the preprocessor must tell, got {got}")
