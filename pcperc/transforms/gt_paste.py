# SPDX-License-Identifier: Apache-2.0
"""GT-paste: objects of other samples put into this one, so that rare classes are seen often."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from pcperc import ops
from pcperc.registry import TRANSFORMS
from pcperc.transforms.compose import Sample, require_keys, rng_of
from pcperc.transforms.gt_database import GTDatabase

# How many objects of a class a sample is filled up to (published recipe for nuScenes).
NUSCENES_COUNTS = {
    "car": 2,
    "truck": 3,
    "construction_vehicle": 7,
    "bus": 4,
    "trailer": 6,
    "barrier": 2,
    "motorcycle": 6,
    "bicycle": 6,
    "pedestrian": 2,
    "traffic_cone": 2,
}


@TRANSFORMS.register_module()
class GTPaste:
    """Fill a sample up with objects of a database, each where it stood in its own sample.

    For each class, as many objects are drawn as the sample lacks to the given count. One whose box overlaps, seen from
    above, a box of the sample or one pasted before is left out. The scene's points inside a pasted box are removed,
    then the object's points are put in front. Comes before every other transform (the database is not augmented), and
    only where no images are used: they do not show the pasted objects.

    The fade-out needs no hook and no message to the workers: the epoch is part of the sample (``sample["epoch"]``, from
    the key that the sampler gave; 0 where there is none), and from ``stop_epoch`` on nothing is pasted.

    Args:
        database: a GTDatabase or its folder.
        counts: number of objects by class name to fill up to.
        max_time_lag: seconds; older points of an object are left out, and an object that has no younger ones. For a
            detector that sees fewer sweeps than the database was cut from; None keeps all.
        stop_epoch: first epoch, counted from 0, without pasting; None pastes always.
        enabled: False switches it off.
    Raises:
        FileNotFoundError: the folder holds no complete database.
        ValueError: a class in ``counts`` is not one of the database's.
    Source: Yan et al., SECOND, Sensors 2018, section 3.3.2; fade-out: Wang et al., PointAugmenting, CVPR 2021.
    """

    def __init__(
        self,
        *,
        database: str | Path | GTDatabase,
        counts: Mapping[str, int] = NUSCENES_COUNTS,
        max_time_lag: float | None = None,
        stop_epoch: int | None = None,
        enabled: bool = True,
    ) -> None:
        self.database = database if isinstance(database, GTDatabase) else GTDatabase(database)
        unknown = [name for name in counts if name not in self.database.classes]
        if unknown:
            raise ValueError(f"GTPaste: counts must name classes of {self.database.classes}, got {unknown}")
        self.counts = {name: int(count) for name, count in counts.items()}
        self.max_time_lag = max_time_lag
        self.stop_epoch = stop_epoch
        self.enabled = enabled

    def __call__(self, sample: Sample) -> Sample:
        require_keys(sample, "GTPaste", "points", "boxes", "labels")
        if "point_labels" in sample:
            raise ValueError("GTPaste: sample must have no point_labels, which pasted points lack; PolarMix keeps them")
        if not self.enabled or (self.stop_epoch is not None and sample.get("epoch", 0) >= self.stop_epoch):
            return sample
        rng = rng_of(sample, "GTPaste")
        boxes, labels, clouds = sample["boxes"], [], []
        for name, count in self.counts.items():
            label = self.database.classes.index(name)
            candidates = self.database.boxes(name)
            number = min(count - int((sample["labels"] == label).sum()), len(candidates))
            if number <= 0:
                continue
            for pick in rng.choice(len(candidates), number, replace=False):
                points = self._points(name, int(pick))
                if len(points) and not _collides(candidates[pick], boxes):
                    boxes = np.concatenate([boxes, candidates[pick : pick + 1]])
                    labels.append(label)
                    clouds.append(points)
        return _paste(sample, boxes, labels, clouds) if clouds else sample

    def _points(self, name: str, pick: int) -> np.ndarray:
        """Return the points of an object that are young enough."""
        points = self.database.points(name, pick)
        return points if self.max_time_lag is None else points[points[:, 4] <= self.max_time_lag]


def _collides(box: np.ndarray, boxes: np.ndarray) -> bool:
    """Return whether a (9,) box overlaps one of the (K, 9) boxes, seen from above."""
    if len(boxes) == 0:
        return False
    near = np.hypot(*(boxes[:, :2] - box[:2]).T) <= (np.hypot(*boxes[:, 3:5].T) + np.hypot(*box[3:5])) / 2
    if not near.any():
        return False
    overlap = ops.box_iou_bev(torch.from_numpy(box[None, :7].copy()), torch.from_numpy(boxes[near, :7].copy()))
    return bool((overlap > 0).any())


def _paste(sample: Sample, boxes: np.ndarray, labels: list[int], clouds: list[np.ndarray]) -> Sample:
    """Return the sample with ``boxes`` (its own, then the pasted ones) and the pasted points."""
    pasted = boxes[len(sample["boxes"]) :]
    points = sample["points"]
    owner = ops.points_in_boxes(torch.from_numpy(points[:, :3].copy()), torch.from_numpy(pasted[:, :7].copy()))
    result = {
        **sample,
        "points": np.concatenate([*clouds, points[owner.numpy() < 0]]),
        "boxes": boxes,
        "labels": np.concatenate([sample["labels"], np.asarray(labels, dtype=sample["labels"].dtype)]),
    }
    if "num_lidar_pts" in sample:
        own = [len(cloud) for cloud in clouds]
        result["num_lidar_pts"] = np.concatenate([sample["num_lidar_pts"], np.asarray(own, dtype=np.int64)])
    return result
