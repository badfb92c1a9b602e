# SPDX-License-Identifier: Apache-2.0
"""A network of every kind of layer gives the same bits on every run and, on the CPU, for every number of threads."""

import pytest
import torch
from torch import nn

import pcperc.nn as spnn
from pcperc import SparseTensor, cat, prune, union
from tests.ops.clouds import random_coords


class EveryLayer(nn.Module):
    """Layers whose sums are our operators'. Batch norm is frozen: torch sums its statistics and gradients."""

    def __init__(self):
        super().__init__()
        self.block = spnn.ResidualBlock(8, 16)
        for norm in (self.block.block1.norm, self.block.block2.norm, self.block.shortcut.norm):
            norm.requires_grad_(False)
        self.down = spnn.SparseConv3d(16, 16, 3, 2, 1)
        self.pool = spnn.SparseMaxPool3d(2)
        self.up = spnn.SparseConvTranspose3d(16, 16, 2, 2)
        self.back = spnn.SparseInverseConv3d(16, 8, 3, groups=2)
        self.norm, self.gate = spnn.GroupNorm(4, 8), spnn.SqueezeExcite(16, 4)
        self.depthwise = spnn.SubMConv3d(16, 16, 3, groups=16)
        self.mean, self.read = spnn.GlobalPool("mean"), spnn.Interpolate(renormalize=True)

    def forward(self, x, points):
        fine = self.block(x)
        middle = self.down(fine)
        grown = union([middle, self.up(self.pool(middle), target=middle)])
        y = cat([self.norm(self.back(grown)), x])
        y = self.depthwise(self.gate(y))
        kept = prune(y, y.coords[:, 1] % 3 > 0)
        return y.feats, self.mean(kept), self.read(kept, points)


def results(network, x, points):
    """Outputs and all gradients."""
    feats = x.feats.clone().requires_grad_()
    outputs = network(SparseTensor(x.coords, feats, x.batch_size), points)
    leaves = [feats, points, *(p for p in network.parameters() if p.requires_grad)]
    loss = sum((output.float().sin() * (1 + index)).sum() for index, output in enumerate(outputs))
    return [*outputs, *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_layer_repeats_for_every_number_of_threads(dtype, device):
    network = EveryLayer().eval().to(device)
    coords = random_coords(6000, low=-12, high=12).to(device)
    x = SparseTensor(coords, torch.randn(len(coords), 8, device=device).to(dtype), 2)
    points = (coords[::2].float() + 0.3).requires_grad_()
    before, expected = torch.get_num_threads(), results(network, x, points)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for number, (got, wanted) in enumerate(zip(results(network, x, points), expected, strict=True)):
                assert torch.equal(got, wanted), (threads, number)
    finally:
        torch.set_num_threads(before)
