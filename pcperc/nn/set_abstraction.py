# SPDX-License-Identifier: Apache-2.0
"""The two steps of PointNet++: from points to fewer centres, and back."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcperc import ops
from pcperc.nn._checks import check_dtype, check_points, check_rows, has_hooks
from pcperc.nn.shared_mlp import SharedMLP, rows_at_once
from pcperc.ops._checks import floats, positive_int
from pcperc.sparse import PointTensor


class SetAbstraction(nn.Module):
    """Choose centres that are spread over each cloud, and reduce the points in a ball around each to their maximum.

    Centres are points, by furthest point sampling. The first ``num_neighbors`` points within ``radius``, as offsets
    from the centre and features, pass a :class:`SharedMLP`; where fewer are inside, the first one stands in for the
    others, so that the statistics of batch norm see a full table, as in the published networks.

    Args:
        in_channels: channels of the points, >= 1.
        channels: layers of the perceptron.
        num_centers: S >= 1; a cloud of fewer points keeps all of them.
        radius: > 0, in the unit of the coordinates.
        num_neighbors: K >= 1.
        device, dtype: of the parameters, as in torch's layers.
    Shape: PointTensor with (N, in_channels) features to one of the at most B * S centres with (M, channels[-1]).
    Raises:
        TypeError, ValueError: an argument; not a PointTensor of in_channels.
    Source: Qi, Yi, Su and Guibas, "PointNet++", NeurIPS 2017, section 3.2.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        *,
        num_centers: int,
        radius: float,
        num_neighbors: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.num_centers = positive_int("SetAbstraction", "num_centers", num_centers)
        self.num_neighbors = positive_int("SetAbstraction", "num_neighbors", num_neighbors)
        (self.radius,) = floats("SetAbstraction", "radius", [radius], 1)
        if self.radius <= 0:
            raise ValueError(f"SetAbstraction: radius must be > 0, got {radius}")
        self.in_channels = positive_int("SetAbstraction", "in_channels", in_channels)
        self.mlp = SharedMLP(3 + in_channels, channels, device=device, dtype=dtype)

    def forward(self, points: PointTensor) -> PointTensor:
        check_points("SetAbstraction", points)
        check_rows(self, points, channels=self.in_channels)
        xyz, items = points.coords[:, 1:].contiguous(), points.items
        centers = self._centers(points, xyz)
        center_xyz = centers.coords[:, 1:]
        balls = {"radius": self.radius, "num_neighbors": self.num_neighbors}
        table = ops.ball_query(xyz, items, center_xyz, centers.items, **balls)
        table = torch.where(table < 0, table[:, :1], table)  # a centre is in its own ball: the first is never absent
        count = rows_at_once([self.mlp], table.numel(), points.feats)
        if count is None:
            return centers.replace(feats=self._reduce(points, xyz, table, center_xyz))
        count = max(count // self.num_neighbors, 1)  # in inference no table of all groups is made
        parts = zip(table.split(count), center_xyz.split(count), strict=True)
        return centers.replace(feats=torch.cat([self._reduce(points, xyz, *part) for part in parts]))

    def _reduce(self, points: PointTensor, xyz: Tensor, table: Tensor, center_xyz: Tensor) -> Tensor:
        """(S, C) maxima over the rows in ``table`` (S, K), around S of the centres."""
        offsets = ops.gather_rows(xyz, table) - center_xyz[:, None]
        grouped = torch.cat([offsets.to(points.dtype), ops.gather_rows(points.feats, table)], 2)
        return self.mlp(grouped.flatten(0, 1)).reshape(*table.shape, self.mlp.out_channels).amax(1)

    def _centers(self, points: PointTensor, xyz: Tensor) -> PointTensor:
        count = points.points_per_cloud
        if count is None:
            samples = ops.furthest_point_sample(xyz, points.items, num_samples=self.num_centers).flatten()
            return points.take(samples[samples >= 0])
        count = min(count, self.num_centers)
        samples = ops.furthest_point_sample(xyz, points.items, num_samples=count).flatten()
        # None is absent where all points are finite; of a cloud where not, a centre may be another cloud's point.
        return points.take(samples.clamp(min=0), points_per_cloud=count)

    def extra_repr(self) -> str:
        return f"num_centers={self.num_centers}, radius={self.radius}, num_neighbors={self.num_neighbors}"


class GlobalAbstraction(nn.Module):
    """Reduce all points of a cloud, as coordinates and features, to the maximum of a :class:`SharedMLP`.

    Args:
        in_channels: channels of the points, >= 1.
        channels: layers of the perceptron.
        device, dtype: of the parameters, as in torch's layers.
    Shape: PointTensor with (N, in_channels) features to one of B points at the origin with (B, channels[-1]); 0 for a
        cloud without points.
    Raises:
        TypeError, ValueError: an argument; not a PointTensor of in_channels.
    Source: Qi, Yi, Su and Guibas, "PointNet++", NeurIPS 2017, section 3.2 (the last level of its classifiers).
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_channels = positive_int("GlobalAbstraction", "in_channels", in_channels)
        self.mlp = SharedMLP(3 + in_channels, channels, device=device, dtype=dtype)

    def forward(self, points: PointTensor) -> PointTensor:
        check_points("GlobalAbstraction", points)
        check_rows(self, points, channels=self.in_channels)
        rows = torch.cat([points.coords[:, 1:].to(points.dtype), points.feats], 1)
        reduced = ops.segment_reduce(self.mlp(rows), points.items, mode="max")
        origins = torch.zeros(points.batch_size, points.dims, dtype=points.coords.dtype, device=points.device)
        if points.batch_size == 0:
            return PointTensor(torch.cat([origins[:, :1], origins], 1), reduced)
        return PointTensor.of_equal_clouds(origins[:, None], reduced[:, None])


class FeaturePropagation(nn.Module):
    """Read centres at the points they came from, by the three nearest, and pass both features on together.

    Args:
        in_channels: channels of the centres and of the points together, >= 1.
        channels: layers of the perceptron.
        device, dtype: of the parameters, as in torch's layers.
    Shape: ``layer(centers, points)``, two PointTensors of the same clouds, to one of the points with (N, channels[-1]).
        Points of a cloud without centres read 0.
    Raises:
        TypeError, ValueError: an argument; not PointTensors of the same number of clouds; other channels.
    Source: Qi, Yi, Su and Guibas, "PointNet++", NeurIPS 2017, section 3.4, equation 2.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.mlp = SharedMLP(in_channels, channels, device=device, dtype=dtype)

    def forward(self, centers: PointTensor, points: PointTensor) -> PointTensor:
        check_points("FeaturePropagation", centers)
        check_points("FeaturePropagation", points)
        plan = ops.make_three_nearest_plan(_xyz(centers), centers.items, _xyz(points), points.items)
        first = self._first_linear(centers, points)
        if first is None:
            read = ops.weighted_gather(centers.feats, plan)
            return points.replace(feats=self.mlp(torch.cat([read, points.feats], 1)))
        # Of the centres it comes before the interpolation, on fewer rows, and nothing is put side by side.
        of_centers, of_points = first.weight.split([centers.num_channels, points.num_channels], 1)
        try:
            feats = F.linear(points.feats, of_points, first.bias)
        except RuntimeError:
            check_dtype(self.mlp, points.feats)
            raise
        feats.add_(ops.weighted_gather(F.linear(centers.feats, of_centers), plan))
        for layer in list(self.mlp)[1:]:
            feats = layer(feats)
        return points.replace(feats=feats)

    def _first_linear(self, centers: PointTensor, points: PointTensor) -> nn.Linear | None:
        """The first layer where its weight is all that it does to these inputs, or None: hooks want to be called."""
        mlp, channels = self.mlp, centers.num_channels + points.num_channels
        if type(mlp) is not SharedMLP or len(mlp) == 0 or has_hooks(mlp):
            return None
        first = mlp[0]
        if type(first) is not nn.Linear or "weight" not in first._parameters or has_hooks(first):
            return None
        return first if centers.dtype == points.dtype and channels == mlp.in_channels else None


def _xyz(points: PointTensor) -> Tensor:
    return points.coords[:, 1:]
