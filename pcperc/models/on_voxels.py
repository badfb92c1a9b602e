# SPDX-License-Identifier: Apache-2.0
"""A network of voxels where one of points is wanted."""

from torch import nn

from pcperc.nn import point_to_voxel, voxel_to_point
from pcperc.nn._checks import check_points
from pcperc.registry import MODELS
from pcperc.sparse import PointTensor


@MODELS.register_module()
class OnVoxels(nn.Module):
    """The mean of the points of each voxel goes through ``net``, and each point takes its voxel's result.

    Args:
        net: SparseTensor to SparseTensor of the same voxels, such as ``MinkUNet``.
    Shape: PointTensor with (N, C) features to one of the same points; N may be 0.
    Raises:
        TypeError: the input is no PointTensor.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, points: PointTensor) -> PointTensor:
        check_points("OnVoxels", points)
        return voxel_to_point(self.net(point_to_voxel(points)), points, "nearest")
