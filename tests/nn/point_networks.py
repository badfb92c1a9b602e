# SPDX-License-Identifier: Apache-2.0
"""Networks of points of every kind, clouds for them, and the comparison of what they give."""

import torch
from torch import nn

import pcperc.nn as spnn
from pcperc import PointTensor
from pcperc.models import pvcnn
from pcperc.models.calorimeter import CaloSPVCNN, GravNet
from pcperc.models.minkunet import MinkUNet
from pcperc.models.on_voxels import OnVoxels
from pcperc.models.spvcnn import SPVCNN
from tests.tolerances import tolerances

NETWORKS = {
    "voxels": lambda: OnVoxels(MinkUNet(4, 3, width=0.25)),
    "points and voxels": lambda: SPVCNN(4, 3, width=0.25),
    "quantized": lambda: SPVCNN(4, 3, width=0.25, quantized=True),
    "two heads": lambda: CaloSPVCNN(4, 3, 2, width=0.25),
    "neighbours": lambda: GravNet(4, 3, 2, neighbors=5),
    "dense grids": lambda: pvcnn.PVCNN(4, 3, blocks=[(8, 1, 4), (16, 1, None)], classifier=(8,), with_se=True),
}
WITHOUT_VOXELS = ("neighbours", "dense grids")


def cloud(count, seed=0, device="cpu", *, edge=24.0):
    """Points of three clouds, the second without any."""
    g = torch.Generator().manual_seed(seed)
    batch = torch.randint(0, 2, (count, 1), generator=g) * 2
    coords = torch.cat([batch, (torch.rand(count, 3, generator=g) - 0.5) * edge], 1)
    return PointTensor(coords.to(device), torch.randn(count, 4, generator=g).to(device), 3)


def network(name, device="cpu", *, fused=False):
    torch.manual_seed(0)
    net = NETWORKS[name]()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1), module.running_var.uniform_(0.5, 1.5)
    net = net.eval().to(device)
    return spnn.fuse(net) if fused else net


def numbers(out):
    """What a network gives, as a list of tensors."""
    return [out.feats] if isinstance(out, PointTensor) else list(out)


def check_close(found, wanted):
    assert type(found) is type(wanted)
    for one, other in zip(numbers(found), numbers(wanted), strict=True):
        torch.testing.assert_close(one, other, **tolerances(one.dtype, 1000))


class Gives(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)
