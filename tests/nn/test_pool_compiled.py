# SPDX-License-Identifier: Apache-2.0
import torch

import pcperc.nn as spnn
from pcperc.sparse import KernelMapCache, SparseTensor, Topology
from tests.ops.clouds import random_coords


class Network(torch.nn.Module):
    """Every layer of pooling, norms over batch items and interpolation."""

    def __init__(self):
        super().__init__()
        self.norms = torch.nn.Sequential(spnn.GroupNorm(2, 4), spnn.InstanceNorm(4, affine=True), spnn.LayerNorm(4))
        self.down, self.up = spnn.SparseMaxPool3d(2, return_indices=True), spnn.SparseMaxUnpool3d(2)
        self.around = torch.nn.Sequential(spnn.SparseAvgPool3d(3, 1, 1), spnn.SqueezeExcite(4), spnn.SparseUnpool3d(3))
        self.whole, self.at_points = spnn.GlobalPool("max"), spnn.Interpolate()

    def forward(self, coords, feats, points):
        x = SparseTensor.on_topology(Topology(coords, 2, None, (1, 1, 1)), feats, KernelMapCache())
        y = self.up(*self.down(self.norms(x)))
        z = self.around(y)
        return self.whole(z), self.at_points(z, points), z.feats


def test_compiles_in_one_graph_for_every_number_of_voxels():
    network = Network()
    compiled = torch.compile(network, backend="eager", fullgraph=True, dynamic=True)
    for count in (60, 90):
        coords = random_coords(count)
        feats = torch.randn(len(coords), 4, requires_grad=True)
        points = torch.rand(7, 4, requires_grad=True)
        results = [run(coords, feats, points) for run in (network, compiled)]
        for plain, traced in zip(*results, strict=True):
            assert torch.equal(plain, traced)
        gradients = [torch.autograd.grad(sum(t.square().sum() for t in r), [feats, points]) for r in results]
        torch.testing.assert_close(*gradients)
