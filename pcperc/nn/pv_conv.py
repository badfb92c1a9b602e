# SPDX-License-Identifier: Apache-2.0
"""Point-voxel convolution on dense grids."""

import torch
from torch import Tensor, nn

from pcperc import ops
from pcperc.nn._checks import TellsArguments, check_points, check_rows
from pcperc.nn.shared_mlp import SharedMLP, pass_in_parts
from pcperc.ops._checks import positive_int
from pcperc.ops.dense_grid import grid_of_clouds
from pcperc.sparse import PointTensor

# What the grids that a layer convolves at once may take in inference, where they are several: a GPU's cache holds them.
MAX_GRID_BYTES = 2**24


class PVConv(TellsArguments, nn.Module):
    """Convolve a coarse dense grid around each cloud, read it at the points, and add a perceptron of each point.

    ``out = devoxelize(conv(conv(voxelize(x)))) + mlp(x)``, where conv is a 3 x 3 x 3 convolution of padding 1, batch
    norm (eps 1e-4) and LeakyReLU (slope 0.1). Layers of equal ``resolution`` and ``normalize`` share the points' grid.

    Args:
        in_channels, out_channels: channels of the points, >= 1.
        resolution: R >= 1, voxels along each axis of the grid; by name, since the published layer's third argument is
            the size of the kernel, here always 3.
        with_se: whether the grid is weighted by channel behind the convolutions, :class:`SqueezeExcite3d`.
        normalize: whether each cloud is scaled to fill its grid, see ``pcperc.ops.make_dense_grid``.
        device, dtype: of the parameters, as in torch's layers.
    Shape: PointTensor with (N, in_channels) features to one of the same points with (N, out_channels). A cloud without
        points is an empty grid, which takes part in the statistics of batch norm.
    Raises:
        TypeError: not a PointTensor, an argument that is no whole number, or one that the layer does not have.
        ValueError: an argument; other channels, or points that have not 3 axes.
    Source: Liu, Tang, Lin and Han, "Point-Voxel CNN for Efficient 3D Deep Learning", NeurIPS 2019, section 4, and the
        code published with it for norms, slopes and squeeze-and-excitation.
    """

    advice = "The published kernel_size is left out: it is 3 (docs/migrate.md)"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        resolution: int,
        with_se: bool = False,
        normalize: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_channels = positive_int("PVConv", "in_channels", in_channels)
        self.out_channels = positive_int("PVConv", "out_channels", out_channels)
        self.resolution = positive_int("PVConv", "resolution", resolution)
        self.normalize = normalize
        factory = dict(device=device, dtype=dtype)
        layers = []
        for channels in (in_channels, out_channels):
            layers.append(nn.Conv3d(channels, out_channels, 3, padding=1, **factory))
            layers += [nn.BatchNorm3d(out_channels, eps=1e-4, **factory), nn.LeakyReLU(0.1)]
        if with_se:
            layers.append(SqueezeExcite3d(out_channels, **factory))
        self.voxel_layers = nn.Sequential(*layers)
        self.point_layers = SharedMLP(in_channels, out_channels, **factory)

    def forward(self, points: PointTensor) -> PointTensor:
        check_points("PVConv", points)
        check_rows(self, points, channels=self.in_channels)
        if points.dims != 3:
            raise ValueError(f"PVConv: points must have 3 axes, got {points.dims}")
        from_points = self.point_layers(points.feats)
        if points.batch_size == 0:  # torch's norms refuse a batch of no clouds
            return points.replace(feats=from_points)
        grid = points.dense_grid(self.resolution, normalize=self.normalize)
        count = self._clouds_at_once(points)
        if count is None:
            return points.replace(feats=self._convolve(points.feats, grid).add_(from_points))
        parts = []
        for first in range(0, points.batch_size, count):
            clouds = slice(first, min(first + count, points.batch_size))
            rows = slice(clouds.start * points.points_per_cloud, clouds.stop * points.points_per_cloud)
            parts.append(self._convolve(points.feats, grid_of_clouds(grid, clouds, rows)).add_(from_points[rows]))
        return points.replace(feats=torch.cat(parts))

    def _convolve(self, feats: Tensor, grid: ops.DenseGrid) -> Tensor:
        return ops.trilinear_devoxelize(self.voxel_layers(ops.avg_voxelize(feats, grid)), grid)

    def _clouds_at_once(self, points: PointTensor) -> int | None:
        """How many clouds to convolve at once, one or as ``MAX_GRID_BYTES`` allows; None for all of them."""
        if points.points_per_cloud is None or not pass_in_parts([self.voxel_layers]):
            return None
        values = self.resolution**3 * max(self.in_channels, self.out_channels)
        count = max(MAX_GRID_BYTES // (values * points.dtype.itemsize), 1)
        return count if count < points.batch_size else None

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, resolution={self.resolution}, normalize={self.normalize}"


class SqueezeExcite3d(nn.Module):
    """Multiply the channels of each dense grid by gates in (0, 1), computed from their means over the grid.

    Args:
        channels: C >= 1.
        reduction: the layer between has max(C // reduction, 1) channels; >= 1.
        device, dtype: of the parameters, as in torch's layers.
    Shape: (B, C, X, Y, Z) to the same.
    Source: Hu, Shen and Sun, "Squeeze-and-Excitation Networks", CVPR 2018, section 3; without biases, as in the code
        published with PVCNN.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 8,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        inner = max(channels // positive_int("SqueezeExcite3d", "reduction", reduction), 1)
        positive_int("SqueezeExcite3d", "channels", channels)
        self.squeeze = nn.Linear(channels, inner, bias=False, device=device, dtype=dtype)
        self.excite = nn.Linear(inner, channels, bias=False, device=device, dtype=dtype)

    def forward(self, volume: Tensor) -> Tensor:
        gates = self.excite(self.squeeze(volume.mean((2, 3, 4))).relu()).sigmoid()
        return volume * gates[:, :, None, None, None]
