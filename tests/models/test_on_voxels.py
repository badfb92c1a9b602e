# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from pcperc.models import OnVoxels
from pcperc.nn import SubMConv3d, point_to_voxel
from pcperc.registry import MODELS
from tests.sparse.test_point_tensor import random_points


def test_each_point_takes_the_result_of_its_voxel():
    points = random_points(80, low=-2, high=2, dtype=torch.float32)
    net = MODELS.build(
        dict(type="OnVoxels", net=dict(type="MinkUNet", in_channels=3, num_classes=4, width=0.25))
    ).eval()
    found, voxels = net(points), net.net(point_to_voxel(points))
    for cell, feats in zip(points.coords.floor().int(), found.feats, strict=True):
        (row,) = (voxels.coords == cell).all(1).nonzero()[0]
        assert torch.equal(feats, voxels.feats[row])
    assert found.coords is points.coords


def test_empty_clouds_and_wrong_input():
    assert OnVoxels(SubMConv3d(3, 2, 3))(random_points(0, dtype=torch.float32)).feats.shape == (0, 2)
    with pytest.raises(TypeError, match="OnVoxels: points must be a PointTensor, got Tensor"):
        OnVoxels(SubMConv3d(3, 2, 3))(torch.zeros(3, 3))
