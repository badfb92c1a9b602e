# SPDX-License-Identifier: Apache-2.0
"""DistributedDataParallel around sparse layers that leave parameters unused, in a process group of one."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import pcperc.nn as spnn
from pcperc import SparseTensor
from tests.ops.clouds import random_coords


class Network(nn.Module):
    def __init__(self, *, gives_feats):
        super().__init__()
        self.used, self.unused = spnn.SubMConv3d(2, 3, 3), spnn.SubMConv3d(2, 3, 3)
        self.gives_feats = gives_feats

    def forward(self, x):
        y = self.used(x)
        return y.feats if self.gives_feats else y


@pytest.fixture
def process_group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("gives_feats", "options"),
    [(True, {"find_unused_parameters": True}), (False, {"static_graph": True}), (False, {})],
    ids=["features", "static_graph", "plain"],
)
def test_gradients_are_those_of_the_module(process_group, gives_feats, options):
    network = Network(gives_feats=gives_feats)
    network.unused.requires_grad_(bool(options))
    parallel = DistributedDataParallel(network, **options)
    coords = random_coords(40)
    x = SparseTensor(coords, torch.randn(len(coords), 2), 2)
    (wanted,) = torch.autograd.grad(network.used(x).feats.square().sum(), network.used.weight)
    for _ in range(2):
        network.zero_grad()
        y = parallel(x)
        (y if gives_feats else y.feats).square().sum().backward()
        torch.testing.assert_close(network.used.weight.grad, wanted)
        assert network.unused.weight.grad is None
