# SPDX-License-Identifier: Apache-2.0
"""From a collated batch of clouds of any size to the clouds of fixed size that the networks of PVCNN read."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from pcperc.sparse import PointTensor

FARTHEST = 2.0**24  # of coordinates, from which on float32 does not tell whole numbers apart


class Clouds(NamedTuple):
    """V clouds of S points each, drawn from the N points of the batch (all of its clouds, one after the other)."""

    xyz: Tensor  # (V, S, 3) float32, where the points are for the network
    feats: Tensor  # (V, S, C) float32
    point: Tensor  # (V, S) int64, which of the N points each row is; a point may be several rows, or in test mode none
    item: Tensor  # (V,) int64, the batch item of each cloud
    categories: Tensor | None  # (V,) int64, of networks that are told

    def points(self, first: int = 0, last: int | None = None) -> PointTensor:
        """Return the clouds [first, last) as the networks take them."""
        return PointTensor.of_equal_clouds(self.xyz[first:last], self.feats[first:last])


class CloudPreprocessor(BaseDataPreprocessor):
    """Move a batch to the device and draw clouds of ``num_points`` points; the subclasses say which and how.

    In training each cloud is drawn by torch's own random numbers; in testing the same points give the same clouds, and
    ``votes`` times every point is in one.

    Args:
        num_points: S >= 1, of each cloud. A cloud of fewer points repeats some.
        votes: how often a point is seen in testing, at least.
        columns: what a sample's points must have, for messages.
        num_categories: where > 0, samples have a ``category`` in [0, num_categories).
        non_blocking: let copies to the device overlap with the host's work.
    Raises:
        ValueError: num_points or votes < 1.
    """

    category_key = "category"  # of a sample

    def __init__(
        self,
        num_points: int,
        *,
        votes: int,
        columns: Sequence[str],
        num_categories: int = 0,
        non_blocking: bool = False,
    ):
        super().__init__(non_blocking)
        for name, value in (("num_points", num_points), ("votes", votes)):
            if value < 1:
                raise ValueError(f"{type(self).__name__}: {name} must be >= 1, got {value}")
        self.num_points, self.votes, self.columns = int(num_points), int(votes), tuple(columns)
        self.num_categories = num_categories
        self.register_buffer("_place", torch.zeros(0), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model is; asked of a buffer, since not every way of moving a model tells MMEngine's attribute."""
        return self._place.device

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: ``inputs`` and ``samples`` as of ``pcperc.datasets.collate``; left as it is.
            training: whether one draw of each cloud is wanted, augmented, or all points.
        Returns:
            The same layout on the device, with ``inputs["clouds"]``, the Clouds.
        Raises:
            ValueError: no points, too few columns, a value that is not finite, a coordinate beyond 2^24, a category
                that is missing or unknown; in training a cloud without points. The message names the sample.
        """
        data = self.cast_data(data)
        inputs = data["inputs"] = dict(data["inputs"])
        samples, clouds = self.samples_and_clouds(data)
        drawn, first = [], 0
        with torch.autocast(self.device.type, enabled=False):
            for item, (cloud, sample) in enumerate(zip(clouds, samples, strict=True)):
                self.check(cloud, sample, item)
                if training and len(cloud) == 0:
                    name = sample.get("sample_token", item)
                    raise ValueError(f"{type(self).__name__}: sample {name} must have points to train on, got none")
                drawn.append(self._clouds_of(cloud, sample, item, first, training))
                first += len(cloud)
        has_categories = drawn[0].categories is not None
        joined = [torch.cat(parts) for parts in list(zip(*drawn, strict=True))[:4]]
        categories = torch.cat([part.categories for part in drawn]) if has_categories else None
        inputs["clouds"] = Clouds(*joined, categories)
        return data

    def draw(self, cloud: Tensor, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Draw V clouds of S points from one, (N, F), N >= 1 in training.

        Returns:
            Where the points are for the network, (V, S, 3), features (V, S, C), and which rows they are, (V, S) int64.
        """
        raise NotImplementedError

    def samples_and_clouds(self, data: dict) -> tuple[list[dict], list[Tensor]]:
        """Return the samples of a batch, empty ones where it has none, and their points."""
        if "points" not in data["inputs"]:
            raise ValueError(f"{type(self).__name__}: inputs must hold 'points', got {sorted(data['inputs'])}")
        clouds = data["inputs"]["points"]
        return data.get("samples") or [{} for _ in clouds], clouds

    def _clouds_of(self, cloud: Tensor, sample: dict, item: int, first: int, training: bool) -> Clouds:
        cloud = cloud.float()
        xyz, feats, rows = self.draw(cloud, training)
        items = torch.full((len(rows),), item, device=cloud.device)
        categories = torch.full_like(items, int(sample[self.category_key])) if self.num_categories else None
        return Clouds(xyz, feats, rows + first, items, categories)

    def check(self, cloud: Tensor, sample: dict, item: int) -> None:
        """Raise for a sample that the network could not read."""
        op, name = type(self).__name__, sample.get("sample_token", item)
        if cloud.ndim != 2 or cloud.shape[1] < len(self.columns):
            expected = f"(N, {len(self.columns)}) or wider, {', '.join(self.columns)}"
            raise ValueError(f"{op}: points of sample {name} must be {expected}, got {tuple(cloud.shape)}")
        finite = cloud[:, : len(self.columns)].isfinite().all(1)
        bad = ~(finite & (cloud[:, :3].abs() <= FARTHEST).all(1))
        if bad.any():  # the only answer of the device that is waited for
            row = int(bad.int().argmax())
            must = f"lie within {FARTHEST:g} of the origin" if finite[row] else "be finite"
            raise ValueError(f"{op}: points of sample {name} must {must}, got {cloud[row].tolist()} at point {row}")
        if self.num_categories:
            category = sample.get(self.category_key)
            if category is None or not 0 <= int(category) < self.num_categories:
                raise ValueError(
                    f"{op}: {self.category_key} of sample {name} must be in [0, {self.num_categories}), got {category}"
                )
