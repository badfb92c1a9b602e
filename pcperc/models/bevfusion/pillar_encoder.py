# SPDX-License-Identifier: Apache-2.0
"""PointPillars, the LiDAR encoder without sparse convolutions: a small network on the points of each vertical pillar.

Source: Lang et al., PointPillars, CVPR 2019, section 2.1; as in BEVFusion's released configuration (Liu et al., ICRA
2023).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pcperc import ops
from pcperc.nn.norm import RowBatchNorm
from pcperc.registry import MODELS


@dataclass(frozen=True)
class Pillars:
    """The points of the pillars of a batch.

    Attributes:
        coords: (M, 3) int64 ``[batch, x, y]``.
        points: (M, max_points, F), empty places are 0.
        num_points: (M,) int32, 1 to max_points.
        batch_size: B.
    """

    coords: Tensor
    points: Tensor
    num_points: Tensor
    batch_size: int


@MODELS.register_module()
class PillarVoxelizer:
    """Gather the points of each pillar, with limits on points per pillar and pillars per sample.

    Args:
        pillar_size: (x, y) side of a pillar in metres; it is as high as the range.
        point_range: (x0, y0, z0, x1, y1, z1) metres; points outside are dropped.
        max_points: points per pillar; the first ones count.
        max_pillars: per sample, in training and in testing; the pillars of the first points stay.
    """

    def __init__(
        self,
        pillar_size: Sequence[float],
        point_range: Sequence[float],
        *,
        max_points: int = 20,
        max_pillars: Sequence[int] = (30_000, 60_000),
    ):
        self.point_range = tuple(point_range)
        self.voxel_size = (*pillar_size, point_range[5] - point_range[2])
        self.max_points, self.max_pillars = max_points, tuple(max_pillars)

    def __call__(self, points: Sequence[Tensor], *, training: bool) -> Pillars:
        """Turn B clouds (N_i, F) into pillars; those of sample 0 first, each sample's in the order of first points."""
        merged = torch.cat(list(points))
        items = [merged.new_full(cloud.shape[:1], item, dtype=torch.int32) for item, cloud in enumerate(points)]
        voxels = ops.voxelize_hard(
            merged,
            torch.cat(items),
            voxel_size=self.voxel_size,
            point_range=self.point_range,
            max_points=self.max_points,
            max_voxels=self.max_pillars[0 if training else 1],
            batch_size=len(points),
        )
        return Pillars(voxels.coords[:, :3].long(), voxels.voxels, voxels.num_points, len(points))


class PillarLayer(nn.Module):
    """Linear layer, batch norm and ReLU on every place of a pillar; all but the last append the pillar's maximum.

    As published, empty places take part, in the statistics of the norm and in the maximum.
    """

    def __init__(self, in_channels: int, out_channels: int, *, is_last: bool):
        super().__init__()
        self.is_last = is_last
        width = out_channels if is_last else out_channels // 2
        self.linear = nn.Linear(in_channels, width, bias=False)
        self.norm = RowBatchNorm(width, eps=1e-3, momentum=0.01)

    def forward(self, feats: Tensor) -> Tensor:
        """Map (M, P, in_channels) to (M, P, out_channels), the last layer to (M, out_channels)."""
        x = self.norm(self.linear(feats).flatten(0, 1)).unflatten(0, feats.shape[:2]).relu()
        top = x.amax(dim=1, keepdim=True)
        return top.squeeze(1) if self.is_last else torch.cat([x, top.expand_as(x)], dim=2)


@MODELS.register_module()
class PointPillarsEncoder(nn.Module):
    """Pillars to a bird's-eye-view map.

    A point is told with its distances from the mean of its pillar's points (x, y, z) and from the pillar's middle
    (x, y).

    Args:
        in_channels: channels F of a point (x, y, z, intensity, time lag).
        channels: outputs of each layer; the last are the map's.
        pillar_size, point_range: those of the voxelizer.
    Raises:
        ValueError: pillars that do not divide the range.
    """

    def __init__(
        self,
        in_channels: int = 5,
        *,
        channels: Sequence[int] = (64, 64),
        pillar_size: Sequence[float] = (0.2, 0.2),
        point_range: Sequence[float] = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0),
    ):
        super().__init__()
        cells = [(point_range[axis + 3] - point_range[axis]) / pillar_size[axis] for axis in (0, 1)]
        if any(abs(count - round(count)) > 1e-3 or round(count) < 1 for count in cells):
            raise ValueError(f"PointPillarsEncoder: pillar_size must divide the range {point_range}, got {pillar_size}")
        self.grid_shape = (round(cells[0]), round(cells[1]))
        self.pillar_size, self.lower = tuple(pillar_size), tuple(point_range[:2])
        self.out_channels = channels[-1]
        widths = [in_channels + 5, *channels]
        self.layers = nn.ModuleList(
            PillarLayer(cin, cout, is_last=number == len(channels) - 1)
            for number, (cin, cout) in enumerate(zip(widths[:-1], widths[1:], strict=True))
        )

    def forward(self, inputs: dict) -> Tensor:
        """Encode ``inputs["voxels"]``, Pillars of F = in_channels; there may be none.

        Returns:
            (B, channels[-1], X, Y), 0 where no pillar is.
        Raises:
            ValueError: there are no pillars in the batch's inputs.
        """
        pillars = inputs.get("voxels")
        if not isinstance(pillars, Pillars):
            raise ValueError(
                f"PointPillarsEncoder: inputs['voxels'] must be Pillars (a PillarVoxelizer makes them), "
                f"got {type(pillars).__name__}"
            )
        rows, columns = self.grid_shape
        feats = self.decorate(pillars)
        for layer in self.layers:
            feats = layer(feats)
        grid = feats.new_zeros(pillars.batch_size * rows * columns, self.out_channels)
        batch, x, y = pillars.coords.unbind(1)
        grid = grid.index_copy(0, (batch * rows + x) * columns + y, feats)
        return grid.view(pillars.batch_size, rows, columns, -1).permute(0, 3, 1, 2).contiguous()

    def decorate(self, pillars: Pillars) -> Tensor:
        """Return the points with their offsets, (M, P, F + 5) in the dtype of the layers; 0 in empty places."""
        points = pillars.points
        xyz = points[..., :3]
        mean = xyz.sum(dim=1, keepdim=True) / pillars.num_points.to(points.dtype)[:, None, None]
        size, lower = points.new_tensor(self.pillar_size), points.new_tensor(self.lower)
        middle = (pillars.coords[:, None, 1:] + 0.5) * size + lower
        feats = torch.cat([points, xyz - mean, xyz[..., :2] - middle], dim=2)
        places = torch.arange(points.shape[1], device=points.device)
        filled = places < pillars.num_points[:, None]
        return (feats * filled[:, :, None]).to(self.layers[0].linear.weight.dtype)
