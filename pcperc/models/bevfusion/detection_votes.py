# SPDX-License-Identifier: Apache-2.0
"""Test-time augmentation: the scene is shown mirrored and turned, the boxes and the maps of all views are merged."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcperc import ops
from pcperc.geometry import Detections, MapPrediction, rotation_z
from pcperc.registry import MODELS


@MODELS.register_module()
class DetectionVotes:
    """Views of a scene, and what they say together.

    Points move; images stay as they are, since ``lidar_aug`` tells the view transform where their rays go. Points that
    the data set's range filter left out stay out where a turn would bring them in.

    Boxes of one class are merged by weighted rotated suppression: the best box takes those that overlap it from above
    by more than ``iou_threshold``, position, size, velocity and heading become the mean of its group weighted by the
    scores, and its score the mean over all views of the best score that each gives to the group (0 where it gives
    none). A box of the group that heads the other way counts with its heading turned round.

    Of maps, each cell has the mean of the probabilities that all views give its place, read bilinearly; views whose map
    does not reach there are left out.

    Args:
        flips: also mirrored in x, in y and in both.
        turns_deg: also turned by these angles, each mirror image too.
        iou_threshold: in [0, 1].
    Raises:
        ValueError: a threshold out of range.
    Source: the merging is that of Solovyev et al., Weighted boxes fusion, IVC 107, 2021, with the scores averaged over
        the views and rotated boxes.
    """

    def __init__(self, *, flips: bool = True, turns_deg: Sequence[float] = (), iou_threshold: float = 0.2):
        if not 0 <= iou_threshold <= 1:
            raise ValueError(f"DetectionVotes: iou_threshold must be in [0, 1], got {iou_threshold}")
        self.flips, self.turns_deg, self.iou_threshold = flips, tuple(turns_deg), float(iou_threshold)

    def matrices(self) -> Tensor:
        """Return what each view does to the scene: (number of views, 4, 4) float64, the identity first."""
        mirrors = [(1, 1), (-1, 1), (1, -1), (-1, -1)] if self.flips else [(1, 1)]
        turns = [torch.from_numpy(rotation_z(math.radians(angle))) for angle in (0.0, *self.turns_deg)]
        return torch.stack(
            [turn @ torch.tensor([x, y, 1, 1], dtype=torch.float64).diag() for turn in turns for x, y in mirrors]
        )

    def moved(self, inputs: dict, data_preprocessor: nn.Module) -> Iterator[dict]:
        """Yield the prepared batch in each view but the first.

        Args:
            inputs: of the data preprocessor, with ``lidar_aug``.
            data_preprocessor: its ``voxelizer`` makes the voxels anew.
        """
        for matrix in self.matrices()[1:].to(inputs["lidar_aug"].device):
            view = {**inputs, "lidar_aug": (matrix @ inputs["lidar_aug"].double()).to(inputs["lidar_aug"].dtype)}
            if "points" in inputs:
                view["points"] = [_moved(cloud, matrix) for cloud in inputs["points"]]
            if "voxels" in inputs:
                view["voxels"] = data_preprocessor.voxelizer(view["points"], training=False)
            yield view

    def merge(self, views: Sequence[Detections]) -> Detections:
        """Merge what all views say of one sample, in one frame; highest score first."""
        boxes, scores, labels = (torch.cat([getattr(view, key) for view in views]) for key in _PARTS)
        source = torch.cat([view.labels.new_full((len(view),), number) for number, view in enumerate(views)])
        parts = [Detections(boxes[:0], scores[:0], labels[:0])]
        for label in labels.unique():
            own = labels == label
            merged, score = self._merge_class(boxes[own], scores[own], source[own], len(views))
            parts.append(Detections(merged, score, label.expand(len(score))))
        result = Detections(*(torch.cat([getattr(part, key) for part in parts]) for key in _PARTS))
        return result.filter(result.scores.argsort(descending=True, stable=True))

    def merge_maps(self, views: Sequence[MapPrediction]) -> MapPrediction:
        """Merge the maps of one sample in all views, of one grid, in the order of `matrices`; in the first's frame."""
        grid, first = views[0].grid, views[0].probabilities
        centres = torch.from_numpy(np.pad(grid.centres(), ((0, 0), (0, 0), (0, 2))))  # (X, Y, 4), z = 0
        centres[..., 3] = 1
        total, weight = first.clone(), torch.ones_like(first[:1])
        for matrix, view in zip(self.matrices()[1:], views[1:], strict=True):
            index = grid.to_index((centres @ matrix.T)[..., :2].numpy())
            places = torch.from_numpy((2 * index + 1) / np.array(grid.shape) - 1).flip(-1)  # torch's: last axis first
            values = torch.cat([view.probabilities, torch.ones_like(first[:1])])[None]
            read = F.grid_sample(values, places[None].to(first), align_corners=False)[0]
            total, weight = total + read[:-1], weight + read[-1:]
        return MapPrediction((total / weight).clamp(0, 1), grid)

    def _merge_class(self, boxes: Tensor, scores: Tensor, source: Tensor, num_views: int) -> tuple[Tensor, Tensor]:
        leaders = ops.nms_bev(boxes, scores, iou_threshold=self.iou_threshold)
        joins = ops.box_iou_bev(boxes[leaders], boxes) > self.iou_threshold  # (L, K)
        joins[torch.arange(len(leaders), device=joins.device), leaders] = True  # also a box without area
        group = joins.int().argmax(0)  # the best of those that it overlaps: the one that suppressed it
        weight = torch.zeros_like(joins, dtype=torch.float64)
        weight[group, torch.arange(len(boxes), device=boxes.device)] = scores.double()

        yaw = boxes[:, 6] + torch.where((boxes[:, 6] - boxes[leaders[group], 6]).cos() < 0, math.pi, 0.0)
        parts = torch.cat([boxes[:, :6], yaw.sin()[:, None], yaw.cos()[:, None], boxes[:, 7:]], 1).double()
        mean = weight @ parts / weight.sum(1, keepdim=True)
        merged = torch.cat([mean[:, :6], torch.atan2(mean[:, 6:7], mean[:, 7:8]), mean[:, 8:]], 1)

        best = scores.new_zeros(len(leaders) * num_views)
        best = best.scatter_reduce(0, group * num_views + source, scores, "amax").view(-1, num_views)
        return merged.to(boxes.dtype), best.mean(1)


_PARTS = ("boxes", "scores", "labels")


def _moved(cloud: Tensor, matrix: Tensor) -> Tensor:
    """Return the cloud with x, y, z moved by a (4, 4) matrix; products by rows, so that TF32 takes no part."""
    xyz = (cloud[:, None, :3] * matrix[:3, :3].to(cloud.dtype)).sum(2) + matrix[:3, 3].to(cloud.dtype)
    return torch.cat([xyz, cloud[:, 3:]], 1)
