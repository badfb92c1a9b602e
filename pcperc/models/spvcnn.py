# SPDX-License-Identifier: Apache-2.0
"""SPVCNN: MinkUNet with a branch of points beside its voxels, which keeps what a coarse voxel loses.

Source: Tang, Liu, Zhao, Lin, Lin, Wang and Han, "Searching Efficient 3D Architectures with Sparse Point-Voxel
Convolution", ECCV 2020, section 3, and the code published with it for what the paper leaves open.
"""

from collections.abc import Sequence

from torch import nn

from pcperc import nn as spnn
from pcperc.models.minkunet import WIDTHS, MinkUNet
from pcperc.nn import point_to_voxel, voxel_to_point
from pcperc.nn._checks import check_points
from pcperc.registry import MODELS
from pcperc.sparse import PointTensor, SparseTensor


@MODELS.register_module()
class SPVCNN(MinkUNet):
    """Voxels pass through MinkUNet; points meet them after the stem, at 1/16, at 1/4 and at full resolution.

    At the first meeting points read the voxels. At each later one they read the voxels, trilinearly among the voxels
    that are there, and add a perceptron of what they had; the mean of the points of each voxel then takes the voxel's
    place. The first voxels are the mean of the points in ``floor(xyz)``.

    Args:
        in_channels, num_classes, width, widths, transitions, inner_widths, project_first: as in ``MinkUNet``.
        dropout: probability in [0, 1] that a number is dropped before the first and the third stage up, in training.
        quantized: read voxels as weights of the published code expect, see ``pcperc.nn.voxel_to_point``.
    Shape: PointTensor with (N, in_channels) features to one of the same points with (N, num_classes), or (N,
        ``out_channels``) without a head. N may be 0, and so may be the points of a batch item.
    Raises:
        TypeError: the input is no PointTensor.
        ValueError: numbers of channels as in ``MinkUNet``; an input of other channels or axes; dropout outside [0, 1].
    """

    def __init__(
        self,
        in_channels: int = 4,
        num_classes: int | None = None,
        *,
        width: float = 1.0,
        widths: Sequence[int] = WIDTHS,
        transitions: Sequence[int] | None = None,
        inner_widths: Sequence[Sequence[int]] | None = None,
        project_first: bool = False,
        dropout: float = 0.3,
        quantized: bool = False,
    ):
        if not 0 <= dropout <= 1:
            raise ValueError(f"{type(self).__name__}: dropout must be in [0, 1], got {dropout}")
        options = dict(transitions=transitions, inner_widths=inner_widths, project_first=project_first)
        super().__init__(in_channels, num_classes, width=width, widths=widths, **options)
        stem, bottom, middle, top = (int(width * widths[i]) for i in (0, 4, 6, 8))
        self.point_transforms = nn.ModuleList(
            nn.Sequential(spnn.Linear(i, o), spnn.BatchNorm(o), spnn.ReLU())
            for i, o in ((stem, bottom), (bottom, middle), (middle, top))
        )
        self.dropout = spnn.Dropout(dropout)
        self.quantized = quantized

    def forward(self, points: PointTensor) -> PointTensor:
        check_points(type(self).__name__, points)
        x, skip, points = self._trunk(points)
        points = self._meet(self.up_stages[3](x, skip), points, self.point_transforms[2])
        return points if self.classifier is None else self.classifier(points)

    def _trunk(self, points: PointTensor) -> tuple[SparseTensor, SparseTensor, PointTensor]:
        """Return what leaves the third stage up, the stem's voxels, which the fourth needs too, and the points then."""
        x = self.stem(point_to_voxel(points))
        points = voxel_to_point(x, points, quantized=self.quantized)
        skips, x = [x], point_to_voxel(points, x)
        for stage in self.down_stages:
            x = stage(x)
            skips.append(x)
        x = skips.pop()
        for transform, stages in zip(self.point_transforms, (self.up_stages[:2], self.up_stages[2:3]), strict=False):
            points = self._meet(x, points, transform)
            x = self.dropout(point_to_voxel(points, x))
            for stage in stages:
                x = stage(x, skips.pop())
        return x, skips.pop(), points

    def _meet(self, x: SparseTensor, points: PointTensor, transform: nn.Module) -> PointTensor:
        read = voxel_to_point(x, points, quantized=self.quantized)
        return read.replace(feats=read.feats + transform(points).feats)
