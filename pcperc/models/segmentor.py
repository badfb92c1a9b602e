# SPDX-License-Identifier: Apache-2.0
"""A network that gives every point of a scan its class, in the form that training and testing call."""

import math

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from pcperc.geometry import IGNORED, PointLabels, rotation_z
from pcperc.models.losses import SegmentationLoss
from pcperc.models.voxel_preprocessor import PreparedPoints
from pcperc.registry import MODELS


@MODELS.register_module()
class Votes:
    """Test-time augmentation: the scan is shown turned and mirrored, and the mean probability counts.

    Args:
        rotations: by equal parts of a turn about z; the first is none.
        flips: each of them also mirrored in y.
    Raises:
        ValueError: rotations < 1.
    """

    def __init__(self, rotations: int = 4, *, flips: bool = True):
        if rotations < 1:
            raise ValueError(f"Votes: rotations must be >= 1, got {rotations}")
        self.rotations, self.flips = int(rotations), flips

    def matrices(self) -> Tensor:
        """Return what each vote does to x, y, z: (number of votes, 3, 3) float32, the identity first."""
        turns = [torch.from_numpy(rotation_z(2 * math.pi * k / self.rotations)[:3, :3]) for k in range(self.rotations)]
        mirrored = [turn @ torch.diag(torch.tensor([1.0, -1.0, 1.0]).double()) for turn in turns] if self.flips else []
        return torch.stack(turns + mirrored).float()


@MODELS.register_module()
class Segmentor(BaseModel):
    """Points to classes.

    Args:
        data_preprocessor: see VoxelPreprocessor.
        backbone: PointTensor to one of the same points with a logit for each class.
        loss: logits (R, C) and labels (R,) to a dict of scalars; None is cross entropy alone.
        votes: test-time augmentation; None shows each scan once, as it is.
    """

    def __init__(
        self,
        data_preprocessor: nn.Module,
        backbone: nn.Module,
        loss: nn.Module | None = None,
        *,
        votes: Votes | None = None,
    ):
        super().__init__(data_preprocessor)
        self.backbone, self.votes = backbone, votes
        self.loss = SegmentationLoss() if loss is None else loss

    def forward(self, inputs: dict, samples: list[dict] | None = None, mode: str = "tensor"):
        """Run the network on a prepared batch.

        Args:
            inputs, samples: the batch as of the data preprocessor; docs/conventions.md lists the keys.
            mode: what to return.
        Returns:
            "tensor": PointTensor with the logits of ``inputs["prepared"].points``. "loss": dict of scalars. "predict":
            list of B PointLabels for every recorded point; of points that a transform left out nothing is said.
        Raises:
            ValueError: another mode; for a loss, not a label for each point of a sample, which the message names.
        """
        if mode not in ("tensor", "loss", "predict"):
            raise ValueError(f"Segmentor: mode must be 'tensor', 'loss' or 'predict', got {mode!r}")
        if mode == "predict":
            return self._predict(inputs, samples)
        logits = self.backbone(inputs["prepared"].points)
        if mode == "tensor":
            return logits
        labels = point_labels_of("Segmentor", inputs, samples)
        return self.loss(logits.feats, labels[inputs["prepared"].row_point])

    def _predict(self, inputs: dict, samples: list[dict] | None) -> list[PointLabels]:
        prepared, clouds = inputs["prepared"], inputs["points"]
        probabilities = self._probabilities(prepared)
        if self.votes is not None:
            matrices = self.votes.matrices().to(prepared.row_point.device)
            for matrix in matrices[1:]:
                moved = self.data_preprocessor.prepare([_moved(cloud, matrix) for cloud in clouds])
                probabilities += self._probabilities(moved)
            probabilities /= len(matrices)
        scores, labels = probabilities.max(1)
        labels = torch.where(prepared.point_row < 0, IGNORED, labels)
        sizes = [len(cloud) for cloud in clouds]
        samples = samples or [{}] * len(clouds)
        parts = zip(samples, labels.split(sizes), scores.split(sizes), strict=True)
        return [for_recorded_points(sample, *part) for sample, *part in parts]

    def _probabilities(self, prepared: PreparedPoints) -> Tensor:
        """Return the probability of each class at each point, (N, C) float32; 0 for one that was left out."""
        rows = self.backbone(prepared.points).feats.float().softmax(1)
        left_out = (prepared.point_row < 0).unsqueeze(1)
        if len(rows) == 0:
            return rows.new_zeros(len(prepared.point_row), rows.shape[1])
        return rows[prepared.point_row.clamp(min=0)].masked_fill(left_out, 0)


def _moved(cloud: Tensor, matrix: Tensor) -> Tensor:
    """Return the cloud with x, y, z multiplied by a (3, 3) matrix; products by rows, so that TF32 takes no part."""
    xyz = (cloud[:, None, :3] * matrix).sum(2)
    return torch.cat([xyz, cloud[:, 3:]], 1)


def point_labels_of(op: str, inputs: dict, samples: list[dict] | None) -> Tensor:
    """Return the labels of the points of all clouds, (N,) int64.

    Raises:
        ValueError: a sample without a label for each of its points.
    """
    if samples is None:
        raise ValueError(f"{op}: samples must be given for a loss, got None")
    for sample, cloud in zip(samples, inputs["points"], strict=True):
        labels = sample.get("point_labels")
        if labels is None or len(labels) != len(cloud):
            found = "none" if labels is None else len(labels)
            raise ValueError(
                f"{op}: sample {sample.get('sample_token')} must have {len(cloud)} point_labels, got {found}"
            )
    return torch.cat([sample["point_labels"] for sample in samples])


def for_recorded_points(sample: dict, labels: Tensor, scores: Tensor) -> PointLabels:
    """Return what is said of every recorded point, given what is said of those that the transforms left."""
    if "point_index" in sample:
        count = sample["num_recorded_points"]
        index = torch.as_tensor(sample["point_index"], device=labels.device)
        labels = labels.new_full((count,), IGNORED).index_copy_(0, index, labels)
        scores = scores.new_zeros(count).index_copy_(0, index, scores)
    return PointLabels(labels, scores)
