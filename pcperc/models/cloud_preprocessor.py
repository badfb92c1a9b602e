# SPDX-License-Identifier: Apache-2.0
"""From a collated batch of clouds of any size to the clouds of fixed size that the networks of PVCNN read."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from pcperc.models.sampling import block_views, draw_view, whole_views
from pcperc.registry import MODELS
from pcperc.sparse import PointTensor

FARTHEST = 2.0**24  # of coordinates, from which on float32 does not tell whole numbers apart

# Of the indoor data sets: metres, [0, 1], and where in the extent of the room.
ROOM_COLUMNS = ("x", "y", "z", "red", "green", "blue", "x_part", "y_part", "z_part")


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

    def views(self, cloud: Tensor, training: bool) -> Tensor:
        """Return the rows of a cloud (N, F) that each drawn cloud has, (V, S) int64; N >= 1 in training."""
        raise NotImplementedError

    def encode(self, cloud: Tensor, views: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        """Return where the points of the (V, S) views are for the network, (V, S, 3), and features (V, S, C)."""
        raise NotImplementedError

    def samples_and_clouds(self, data: dict) -> tuple[list[dict], list[Tensor]]:
        """Return the samples of a batch, empty ones where it has none, and their points."""
        if "points" not in data["inputs"]:
            raise ValueError(f"{type(self).__name__}: inputs must hold 'points', got {sorted(data['inputs'])}")
        clouds = data["inputs"]["points"]
        return data.get("samples") or [{} for _ in clouds], clouds

    def _clouds_of(self, cloud: Tensor, sample: dict, item: int, first: int, training: bool) -> Clouds:
        cloud = cloud.float()
        views = self.views(cloud, training)
        count = len(views)
        items = torch.full((count,), item, device=cloud.device)
        categories = torch.full_like(items, int(sample[self.category_key])) if self.num_categories else None
        return Clouds(*self.encode(cloud, views, training), views + first, items, categories)

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


@MODELS.register_module()
class ShapePreprocessor(CloudPreprocessor):
    """Shapes: drawn from all of their points, centred and scaled to the unit sphere.

    The mean of all recorded points becomes the origin and the one furthest from it lies at distance 1; where all points
    are equal they are at the origin. Features are x, y, z as the network sees them and the normal.

    Args:
        num_points, votes, num_categories, non_blocking: as in ``CloudPreprocessor``.
        normals: whether points have columns nx, ny, nz.
        replace: whether in training points are drawn with replacement, as published for ShapeNet-Part.
        jitter: standard deviation of what is added to each coordinate in training, and the most of it.
    Raises:
        ValueError: as ``CloudPreprocessor``; a negative jitter.
    Source: Liu, Tang, Lin and Han, "Point-Voxel CNN", NeurIPS 2019, section 5.1, and the code published with it.
    """

    def __init__(
        self,
        num_points: int = 2048,
        *,
        votes: int = 1,
        num_categories: int = 16,
        normals: bool = True,
        replace: bool = True,
        jitter: tuple[float, float] = (0.01, 0.05),
        non_blocking: bool = False,
    ):
        columns = ("x", "y", "z", *(("nx", "ny", "nz") if normals else ()))
        options = dict(votes=votes, columns=columns, num_categories=num_categories, non_blocking=non_blocking)
        super().__init__(num_points, **options)
        if len(jitter) != 2 or not all(0 <= value < math.inf for value in jitter):
            raise ValueError(f"ShapePreprocessor: jitter must be >= 0, a deviation and the most of it, got {jitter}")
        self.replace, self.jitter = replace, tuple(jitter)

    def views(self, cloud: Tensor, training: bool) -> Tensor:
        if training:
            rows = torch.arange(len(cloud), device=cloud.device)
            return draw_view(rows, self.num_points, replace=self.replace)[None]
        return whole_views(len(cloud), self.num_points, votes=self.votes, device=cloud.device)

    def encode(self, cloud: Tensor, views: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        xyz = cloud[:, :3] - cloud[:, :3].mean(0)
        largest = xyz.square().sum(1).amax().sqrt() if len(xyz) else xyz.new_ones(())
        xyz = (xyz / torch.where(largest > 0, largest, 1))[views]
        if training and self.jitter[0]:
            sigma, most = self.jitter
            xyz = xyz + (sigma * torch.randn_like(xyz)).clamp(-most, most)
        return xyz, torch.cat([xyz, cloud[:, 3 : len(self.columns)][views]], 2)


@MODELS.register_module()
class RoomPreprocessor(CloudPreprocessor):
    """Rooms: square columns of ``block`` metres, drawn anywhere in training and from shifted grids in testing.

    Features are the nine columns of the indoor data sets: x, y, z in metres, red, green, blue, and where in the room
    the point lies. x and y are from half a block above the lowest of the block's points.

    Args:
        num_points, votes, non_blocking: as in ``CloudPreprocessor``.
        block: edge length in metres; None where samples are blocks already, which stay as they are.
        blocks: drawn of each room in training: blocks around points that are drawn at random.
        grids: in testing each vote lays so many grids of blocks, each a part ``block / grids`` further along x and y.
    Raises:
        ValueError: as ``CloudPreprocessor``; a block not > 0; blocks or grids < 1.
    Source: Liu, Tang, Lin and Han, "Point-Voxel CNN", NeurIPS 2019, section 5.2; blocks and features as PointCNN (Li et
        al., NeurIPS 2018) prepares S3DIS. There small blocks join a neighbour; here their points are repeated.
    """

    def __init__(
        self,
        num_points: int = 4096,
        *,
        block: float | None = 1.5,
        blocks: int = 1,
        grids: int = 2,
        votes: int = 1,
        non_blocking: bool = False,
    ):
        super().__init__(num_points, votes=votes, columns=ROOM_COLUMNS, non_blocking=non_blocking)
        if not (block is None or 0 < block < math.inf):
            raise ValueError(f"RoomPreprocessor: block must be > 0 or None, got {block}")
        if blocks < 1 or grids < 1:
            raise ValueError(f"RoomPreprocessor: blocks and grids must be >= 1, got {blocks} and {grids}")
        self.block, self.blocks, self.grids = block, int(blocks), int(grids)

    def views(self, cloud: Tensor, training: bool) -> Tensor:
        if not training:
            if self.block is None:
                return whole_views(len(cloud), self.num_points, votes=self.votes, device=cloud.device)
            options = dict(block=self.block, grids=self.grids, votes=self.votes)
            return block_views(cloud[:, :2], self.num_points, **options)
        if self.block is None:
            rows = torch.arange(len(cloud), device=cloud.device)
            return draw_view(rows, self.num_points)[None]
        views = []
        for _ in range(self.blocks):
            middle = cloud[torch.randint(len(cloud), (1,), device=cloud.device), :2]
            inside = ((cloud[:, :2] - middle).abs() <= self.block / 2).all(1).nonzero().squeeze(1)
            views.append(draw_view(inside, self.num_points))
        return torch.stack(views)

    def encode(self, cloud: Tensor, views: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        feats = cloud[views][..., : len(self.columns)]
        if self.block is not None and len(views):
            xy = feats[..., :2] - feats[..., :2].amin(1, keepdim=True) - self.block / 2
            feats = torch.cat([xy, feats[..., 2:]], 2)
        return feats[..., :3], feats
