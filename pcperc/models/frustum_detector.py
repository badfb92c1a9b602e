# SPDX-License-Identifier: Apache-2.0
"""From frustums of 2D boxes to 3D boxes, in the form that training and testing call."""

import math
from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from pcperc import ops
from pcperc.geometry import Detections, transform_boxes
from pcperc.models.cloud_preprocessor import CloudPreprocessor
from pcperc.models.losses.frustum import FrustumTargets
from pcperc.models.sampling import draw_view, whole_views
from pcperc.registry import MODELS
from pcperc.sparse import PointTensor

SMALLEST = 0.01  # metres: a size that the network makes negative is this


def to_network(xyz: Tensor) -> Tensor:
    """(..., 3) of the frustum frame, x forward, y left, z up, to the published network's axes: right, down, forward."""
    x, y, z = xyz.unbind(-1)
    return torch.stack([-y, -z, x], -1)


def from_network(xyz: Tensor) -> Tensor:
    """The inverse of :func:`to_network`."""
    right, down, forward = xyz.unbind(-1)
    return torch.stack([forward, -right, -down], -1)


def turned_heading(angle: Tensor) -> Tensor:
    """Yaw about z of the frustum frame to the network's heading about y (down), and back: ``-angle - pi / 2``."""
    return -angle - math.pi / 2


@MODELS.register_module()
class FrustumPreprocessor(CloudPreprocessor):
    """Move a batch of frustums to the device, draw points of each, and put them and the truth into the network's axes.

    ``inputs["frustums"]`` is a PointTensor of features x, y, z (right, down, forward) and intensity,
    ``inputs["categories"]`` (B,) what the 2D boxes show, and, where samples have ``box`` and ``point_labels``,
    ``inputs["targets"]`` the FrustumTargets. A frustum without points stays without.

    Args:
        num_points: drawn of each frustum, with replacement in training; one of fewer points repeats some.
        class_templates: the size template of each class that a sample's ``class_index`` may name.
        flip: whether in training every other frustum is mirrored in its middle plane.
        shift: standard deviation in training of a move away from the camera, as a part of the object's distance; at
            most four of it. The published code means this with 0.05, but its clipping makes it a move of 0.8 or more.
        non_blocking: let copies to the device overlap with the host's work.
    Raises:
        ValueError: num_points < 1, no class, or a negative shift.
    Source: Qi et al., "Frustum PointNets", CVPR 2018, section 5.2.
    """

    category_key = "class_index"

    def __init__(
        self,
        num_points: int = 1024,
        *,
        class_templates: Sequence[int] = (0, 3, 5),
        flip: bool = True,
        shift: float = 0.05,
        non_blocking: bool = False,
    ):
        if not class_templates or not 0 <= shift < math.inf:
            raise ValueError(
                "FrustumPreprocessor: class_templates must name one or more and shift be >= 0, "
                f"got {class_templates} and {shift}"
            )
        columns, classes = ("x", "y", "z", "intensity"), len(class_templates)
        super().__init__(num_points, votes=1, columns=columns, num_categories=classes, non_blocking=non_blocking)
        self.register_buffer("class_templates", torch.tensor(class_templates), persistent=False)
        self.flip, self.shift = flip, float(shift)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch; see the class. Raises ValueError as ``CloudPreprocessor``, but not for want of points."""
        data = self.cast_data(data)
        inputs = data["inputs"] = dict(data["inputs"])
        samples, clouds = self.samples_and_clouds(data)
        views = []
        for item, (cloud, sample) in enumerate(zip(clouds, samples, strict=True)):
            self.check(cloud, sample, item)
            views.append(self._view(len(cloud), training))
        classes = torch.tensor([int(sample["class_index"]) for sample in samples], device=self.device)
        counts = torch.tensor([len(view) for view in views], device=self.device)
        item = torch.arange(len(views), device=self.device).repeat_interleave(counts)
        rows = torch.cat([cloud[view, :4].float() for cloud, view in zip(clouds, views, strict=True)])
        feats = torch.cat([to_network(rows[:, :3]), rows[:, 3:]], 1)
        targets = self._targets(samples, views, classes)
        if training:
            if targets is None:
                raise ValueError("FrustumPreprocessor: samples must have box and point_labels to train on, got none")
            feats, targets = self._augmented(feats, item, targets)
        coords = torch.cat([item[:, None].to(feats), feats[:, :3]], 1)
        inputs["frustums"] = PointTensor(coords, feats, len(views))
        inputs["categories"], inputs["targets"] = classes, targets
        return data

    def _view(self, count: int, training: bool) -> Tensor:
        if count == 0:
            return torch.zeros(0, dtype=torch.int64, device=self.device)
        if training:
            return draw_view(torch.arange(count, device=self.device), self.num_points, replace=True)
        return whole_views(count, self.num_points, device=self.device)[0]

    def _targets(self, samples: Sequence[dict], views: Sequence[Tensor], classes: Tensor) -> FrustumTargets | None:
        if not all("box" in sample and "point_labels" in sample for sample in samples):
            return None
        boxes = torch.stack([torch.as_tensor(sample["box"]) for sample in samples]).to(self.device).float()
        labels = [sample["point_labels"] for sample in samples]
        mask = torch.cat([label[view] for label, view in zip(labels, views, strict=True)])
        heading = turned_heading(boxes[:, 6])
        return FrustumTargets(mask, to_network(boxes[:, :3]), boxes[:, 3:6], heading, self.class_templates[classes])

    def _augmented(self, feats: Tensor, item: Tensor, targets: FrustumTargets) -> tuple[Tensor, FrustumTargets]:
        count, center = len(targets.center), targets.center
        mirrored = torch.rand(count, device=self.device) < (0.5 if self.flip else 0.0)
        side = torch.where(mirrored, -1.0, 1.0)
        move = torch.randn(count, device=self.device).clamp(-4, 4) * self.shift * center.norm(dim=1)
        ones = torch.ones_like(side)
        factor, offset = torch.stack([side, ones, ones], 1), torch.stack([0 * move, 0 * move, move], 1)
        heading = torch.where(mirrored, math.pi - targets.heading, targets.heading)
        xyz = feats[:, :3] * factor[item] + offset[item]
        targets = targets._replace(center=center * factor + offset, heading=heading)
        return torch.cat([xyz, feats[:, 3:]], 1), targets


@MODELS.register_module()
class FrustumDetector(BaseModel):
    """A box for the object in each frustum.

    Its score is the mean probability of the points that are taken for the object, times those of the heading's bin and
    of the size template, times the sample's ``score_2d`` where it has one.

    Args:
        data_preprocessor: a FrustumPreprocessor.
        network: points and categories to FrustumBoxes, such as a ``FrustumPVCNN``.
        loss: FrustumBoxes and FrustumTargets to a dict of scalars; its ``templates`` give boxes their size.
    """

    def __init__(self, data_preprocessor: nn.Module, network: nn.Module, loss: nn.Module):
        super().__init__(data_preprocessor)
        self.network, self.loss = network, loss

    def forward(self, inputs: dict, samples: list[dict] | None = None, mode: str = "tensor"):
        """Run the network on a prepared batch.

        Args:
            inputs, samples: the batch as of the data preprocessor; docs/conventions.md lists the keys.
            mode: what to return.
        Returns:
            "tensor": FrustumBoxes, in the network's axes. "loss": dict of scalars. "predict": list of B Detections of
            one box, or none for a frustum without points or of which none is taken for the object, in the recorded
            LiDAR frame (by ``frustum2lidar`` of the sample; without it in the frustum's).
        Raises:
            ValueError: another mode; a loss of samples without truth.
        """
        if mode not in ("tensor", "loss", "predict"):
            raise ValueError(f"FrustumDetector: mode must be 'tensor', 'loss' or 'predict', got {mode!r}")
        points = inputs["frustums"]
        boxes = self.network(points, inputs["categories"])
        if mode == "tensor":
            return boxes
        if mode == "loss":
            if inputs["targets"] is None:
                raise ValueError("FrustumDetector: samples must have box and point_labels for a loss, got none")
            return self.loss(boxes, inputs["targets"])
        found = self._boxes(boxes)
        scores, counts = _scores(boxes, points)
        samples = samples or [{}] * len(found)
        categories = inputs["categories"].split(1)
        parts = zip(samples, found.split(1), scores.split(1), categories, counts.tolist(), strict=True)
        return [_detections(*part) for part in parts]

    def _boxes(self, boxes) -> Tensor:
        """(B, 9) boxes of the frustum frames, velocity 0."""
        size = boxes.size(self.loss.templates.to(boxes.center.dtype)).clamp(min=SMALLEST)
        yaw = torch.remainder(turned_heading(boxes.heading()) + math.pi, 2 * math.pi) - math.pi
        center = from_network(boxes.center)
        return torch.cat([center, size.to(center), yaw[:, None].to(center), torch.zeros_like(center[:, :2])], 1).float()


def _scores(boxes, points: PointTensor) -> tuple[Tensor, Tensor]:
    """How sure the network is of the object's points, its heading and its size, together, (B,) float32, and how many
    points are the object's, (B,)."""
    probability = boxes.mask_logits.float().softmax(1)[:, 1:]
    chosen = torch.where(boxes.mask_logits[:, 1] > boxes.mask_logits[:, 0], points.items.index, -1)
    of_object = ops.make_segments(chosen, num_segments=points.batch_size)
    score = ops.segment_reduce(probability, of_object, mode="mean")[:, 0]
    for logits in (boxes.heading_scores, boxes.size_scores):
        score = score * logits.float().softmax(1).amax(1)
    return score, of_object.starts.diff()


def _detections(sample: dict, box: Tensor, score: Tensor, label: Tensor, count: int) -> Detections:
    """The box of a frustum in which the object has ``count`` points: of none the heads made it up."""
    if count == 0:
        return Detections(box[:0], score[:0], label[:0])
    if "frustum2lidar" in sample:
        box = transform_boxes(box, torch.as_tensor(sample["frustum2lidar"]))
    return Detections(box, score * float(sample.get("score_2d", 1.0)), label)
