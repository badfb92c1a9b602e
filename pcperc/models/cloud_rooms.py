# SPDX-License-Identifier: Apache-2.0
"""What the networks of PVCNN see of rooms: square columns of them, or blocks that were cut before."""

import math

import torch
from torch import Tensor

from pcperc.models.cloud_preprocessor import CloudPreprocessor
from pcperc.models.sampling import block_views, draw_view, whole_views
from pcperc.registry import MODELS

# Of the indoor data sets: metres, [0, 1], and where in the extent of the room.
ROOM_COLUMNS = ("x", "y", "z", "red", "green", "blue", "x_part", "y_part", "z_part")


@MODELS.register_module()
class RoomPreprocessor(CloudPreprocessor):
    """Rooms: square columns of ``block`` metres, drawn anywhere in training and from shifted grids in testing.

    Features are the nine columns of the indoor data sets: x, y, z in metres, red, green, blue, and where in the room
    the point lies. x and y are from half a block above the lowest of the block's points, whether these were drawn or
    not.

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

    def draw(self, cloud: Tensor, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        if self.block is None:
            views = self._whole_views(cloud, training)
            feats = cloud[views][..., : len(self.columns)]
            return feats[..., :3], feats, views
        if training:
            views, lowest = self._draw_blocks(cloud)
        else:
            options = dict(block=self.block, grids=self.grids, votes=self.votes)
            views, lowest = block_views(cloud[:, :2], self.num_points, **options)
        feats = cloud[views][..., : len(self.columns)]
        xy = feats[..., :2] - lowest[:, None] - self.block / 2
        feats = torch.cat([xy, feats[..., 2:]], 2)
        return feats[..., :3], feats, views

    def _whole_views(self, cloud: Tensor, training: bool) -> Tensor:
        if not training:
            return whole_views(len(cloud), self.num_points, votes=self.votes, device=cloud.device)
        return draw_view(torch.arange(len(cloud), device=cloud.device), self.num_points)[None]

    def _draw_blocks(self, cloud: Tensor) -> tuple[Tensor, Tensor]:
        """Return points of blocks around points that are drawn, (V, S) rows, and the lowest x, y of each, (V, 2)."""
        views, lowest = [], []
        for _ in range(self.blocks):
            middle = cloud[torch.randint(len(cloud), (1,), device=cloud.device), :2]
            inside = ((cloud[:, :2] - middle).abs() <= self.block / 2).all(1).nonzero().squeeze(1)
            views.append(draw_view(inside, self.num_points))
            lowest.append(cloud[inside, :2].amin(0))
        return torch.stack(views), torch.stack(lowest)
