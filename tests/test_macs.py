# SPDX-License-Identifier: Apache-2.0
"""Multiply-adds of models: against a count from coordinates alone, and against published figures."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import pcperc.nn as spnn
from pcperc.benchmark.macs import count_macs, count_parameters
from pcperc.benchmark.map_time import kernel_map_time
from pcperc.models import MinkUNet
from pcperc.models.pvcnn import PVCNN
from pcperc.models.spvcnn import SPVCNN
from pcperc.models.spvnas import SPVNAS, SearchSpace
from pcperc.sparse import PointTensor, SparseTensor
from tests.oracles_macs import minkunet_macs, pairs_of_three


def cells_of(count: int, size: int = 12, seed: int = 0) -> np.ndarray:
    return np.unique(np.random.default_rng(seed).integers(-size, size, (count, 3)), axis=0)


def voxels_of(*clouds: np.ndarray, channels: int = 4) -> SparseTensor:
    rows = [np.c_[np.full(len(cells), item), cells] for item, cells in enumerate(clouds)]
    coords = torch.from_numpy(np.concatenate(rows).astype(np.int32))
    return SparseTensor(coords, torch.randn(len(coords), channels), batch_size=len(clouds))


def test_pairs_of_the_oracle():
    assert pairs_of_three(np.array([[0, 0, 0], [1, 1, 1], [3, 3, 3]])) == 3 + 2
    assert pairs_of_three(np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3)) == 7**3
    assert pairs_of_three(np.zeros((0, 3), int)) == 0


@pytest.mark.parametrize("width", [0.25, 0.5])
def test_minkunet_is_the_count_from_coordinates(device, width):
    cells = cells_of(700)
    net = MinkUNet(4, 19, width=width).to(device).train()
    cost = count_macs(net, voxels_of(cells).to(device))
    assert cost.macs == minkunet_macs(cells, in_channels=4, num_classes=19, width=width)
    assert cost.macs == sum(layer.macs for layer in cost.layers) and len(cost.layers) == 50
    assert cost.parameters == sum(p.numel() for p in net.parameters())
    first, last = cost.layers[0], cost.layers[-1]
    assert (first.name, first.kind, first.pairs) == ("stem.0.conv", "SubMConv3d", pairs_of_three(cells))
    assert (last.name, last.kind, last.pairs) == ("classifier", "Linear", 0)
    assert all(module.training for module in net.modules()), "the mode must be as before"


def test_a_batch_is_its_items_and_fused_layers_count_alike():
    one, two = cells_of(200), cells_of(300, seed=1)
    net = MinkUNet(4, 5, width=0.25).eval()
    alone = [count_macs(net, voxels_of(cells)).macs for cells in (one, two)]
    assert count_macs(net, voxels_of(one, two)).macs == sum(alone)
    fused = count_macs(spnn.fuse(net), voxels_of(one, two))
    assert fused.macs == sum(alone) and fused.parameters < count_parameters(net)  # the norms are gone
    assert count_macs(net, voxels_of(np.zeros((0, 3), int), one)).macs == alone[0]


def test_groups_and_dense_layers():
    x = voxels_of(cells_of(300), channels=8)
    pairs = pairs_of_three(cells_of(300))
    assert count_macs(spnn.SubMConv3d(8, 6, 3, groups=2), x).macs == pairs * 4 * 6
    conv = nn.Conv2d(4, 6, 3, padding=1, groups=2)
    assert count_macs(conv, torch.randn(2, 4, 5, 7)).macs == 2 * 35 * 9 * 2 * 6
    assert count_macs(nn.Linear(8, 3), torch.randn(10, 5, 8)).macs == 50 * 24
    attention = nn.MultiheadAttention(16, 4, batch_first=True)
    query, key = torch.randn(2, 7, 16), torch.randn(2, 9, 16)
    products = 2 * (7 + 9 + 9 + 7) * 16 * 16 + 2 * (2 * 7 * 9 * 16)
    cost = count_macs(attention, query, key, key, need_weights=False)
    assert cost.macs == products and cost.parameters == 4 * (16 * 16 + 16)
    assert cost.layers[0].parameters == 3 * (16 * 16 + 16), "without those of the child that projects the output"
    assert count_macs(attention, query, query, query).macs == 2 * 4 * 7 * 16 * 16 + 2 * (2 * 7 * 7 * 16)


def test_a_subnet_costs_what_its_super_network_says():
    torch.manual_seed(0)
    coords = torch.cat([torch.zeros(300, 1), torch.rand(300, 3) * 20], 1)
    points = PointTensor(coords, torch.randn(300, 4), 1)
    space = SearchSpace((16,) + (32,) * 8, (16,) + (16,) * 8)
    net = SPVNAS(4, 5, space=space)
    for subnet in (net.largest(), net.smallest(), net.sample(np.random.default_rng(0))):
        net.set_subnet(subnet)
        shared, own = count_macs(net, points), count_macs(net.extract(subnet), points)
        assert shared.layers == own.layers and shared.parameters >= own.parameters
        assert own.macs > count_macs(MinkUNet(4, 5, **subnet.options), voxels_of(points.voxels().coords[:, 1:])).macs


def test_torch_counts_our_layers_too():
    x, net = voxels_of(cells_of(200)), MinkUNet(4, 5, width=0.25).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x)
    assert counter.get_total_flops() == 2 * count_macs(net, x).macs


def test_kernel_maps_are_part_of_the_time():
    net, cells = MinkUNet(4, 5, width=0.25).eval(), cells_of(500)
    voxels = voxels_of(cells)
    cold = kernel_map_time(lambda: net(SparseTensor(voxels.coords, voxels.feats, 1)), torch.device("cpu"), runs=1)
    net(voxels)
    assert cold > 0 and kernel_map_time(lambda: net(voxels), torch.device("cpu"), runs=1) == 0


def test_not_a_model():
    with pytest.raises(TypeError, match="count_macs: model must be a torch.nn.Module, got function"):
        count_macs(test_not_a_model)


def test_published_figure(realdata):
    """MinkUNet@114GMACs of the SPVNAS model zoo: 113.9 G on average over SemanticKITTI."""
    expected = {"seq08/velodyne/000000.bin": 136.98, "tp3d_unlabelled/velodyne/000186.bin": 87.55}
    net, counted = MinkUNet(4, 19), []
    for name, wanted in expected.items():
        points = np.fromfile(realdata / "semantickitti" / name, "<f4").reshape(-1, 4)
        cells = np.unique(np.floor(points[:, :3] / np.float32(0.05)).astype(np.int64), axis=0)
        cells -= cells.min(0)  # as published; where the coarse voxels begin changes the figure by half a percent
        cost = count_macs(net, voxels_of(cells))
        assert cost.macs == minkunet_macs(cells, in_channels=4, num_classes=19)
        assert cost.macs / 1e9 == pytest.approx(wanted, abs=0.005)
        counted.append(cost.macs / 1e9)
    assert np.mean(counted) == pytest.approx(113.9, rel=0.05)
    assert count_parameters(net) / 1e6 == pytest.approx(21.723, abs=0.0005)


def test_points_and_voxels_cost_nothing_of_their_own():
    """SPVCNN is MinkUNet and three perceptrons."""
    coords = torch.cat([torch.zeros(400, 1), torch.rand(400, 3) * 9], 1)
    points = PointTensor(coords, torch.randn(400, 4), 1)
    cells = points.voxels().coords[:, 1:].numpy()
    c = [int(0.25 * width) for width in (32, 256, 128, 96)]
    perceptrons = 400 * (c[0] * c[1] + c[1] * c[2] + c[2] * c[3])
    head = (400 - len(cells)) * c[3] * 5  # on points instead of voxels
    wanted = minkunet_macs(cells, in_channels=4, num_classes=5, width=0.25) + perceptrons + head
    assert count_macs(SPVCNN(4, 5, width=0.25), points).macs == wanted


def test_networks_of_points_are_counted_whole():
    """Each linear layer of PVCNN once a point, but what the classifier sees of the cloud, which is once a cloud."""
    net = PVCNN(3, 5, blocks=[(8, 1, None), (6, 2, None), (16, 1, None)], classifier=(7,))
    points = PointTensor.of_equal_clouds(torch.rand(2, 50, 3), torch.rand(2, 50, 3))
    of_points = 3 * 8 + 8 * 6 + 6 * 6 + 6 * 16 + (8 + 6 + 6 + 16) * 7 + 7 * 5
    for network in (net.eval(), spnn.fuse(net)):
        assert count_macs(network, points).macs == 100 * of_points + 2 * 16 * 7
