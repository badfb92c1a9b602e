# SPDX-License-Identifier: Apache-2.0
"""Networks over padding equal those without, on a CPU too; captured ones, on a GPU, equal the network."""

import logging
import sys

import pytest
import torch

import pcperc.nn as spnn
from pcperc import PointTensor, SparseTensor
from pcperc.models.minkunet import MinkUNet
from pcperc.nn.capture import CapturedNetwork
from pcperc.nn.padded_pass import PaddedPass
from pcperc.sparse.padding import pad
from tests.ops.clouds import random_coords
from tests.tolerances import tolerances


class Head(torch.nn.Module):
    """Steps down by convolution and pooling, then a dense map and a vector for each cloud."""

    def __init__(self):
        super().__init__()
        conv = spnn.SparseConv3d(4, 8, 3, stride=2, padding=1)
        self.down = torch.nn.Sequential(conv, spnn.BatchNorm(8), spnn.ReLU(), spnn.SparseMaxPool3d(2))
        self.norm, self.pool = spnn.GroupNorm(2, 8), spnn.GlobalPool("mean")

    def forward(self, x):
        x = self.norm(self.down(x))
        return torch.cat([x.dense().flatten(1), self.pool(x)], 1)


def cloud(count=300, seed=0, device="cpu"):
    coords = random_coords(count, low=0, high=15, seed=seed).to(device)
    return SparseTensor(coords, torch.randn(len(coords), 4, device=device), 3, spatial_shape=16)


def network(device="cpu"):
    net = MinkUNet(4, num_classes=3, width=0.25)
    for module in net.modules():
        if isinstance(module, spnn.BatchNorm):
            module.running_mean.normal_(0, 0.1), module.running_var.uniform_(0.5, 1.5)
    return net.eval().to(device)


@torch.no_grad()
@pytest.mark.parametrize("model", [network, lambda device="cpu": spnn.fuse(network(device))], ids=["blocks", "fused"])
def test_a_network_computes_the_same_over_padding(model, device):
    net, x = model(device), cloud(device=device)
    wanted = net(x)
    rows = x.kernel_maps.downsampled_rows
    assert len(rows) == 4 and rows[0] > rows[1]
    padded = pad(x, len(x) + 77, capacities=[count + 13 for count in rows])
    padded.feats[len(x) :] = torch.nan  # as a cloud before may have left them
    done = PaddedPass.run(net, padded)
    assert padded.kernel_maps.downsampled_rows == [count + 13 for count in rows]
    found = done.result(x, padded)
    assert found.topology is x.topology
    torch.testing.assert_close(found.feats, wanted.feats, **tolerances(torch.float32, 1000))


@torch.no_grad()
def test_pooling_norms_and_maps_pass_over_padding(device):
    net, x = Head().eval().to(device), cloud(device=device)
    wanted = net(x)
    rows = x.kernel_maps.downsampled_rows
    padded = pad(x, len(x) + 5, capacities=[count + 9 for count in rows])
    padded.feats[len(x) :] = torch.nan
    torch.testing.assert_close(PaddedPass.run(net, padded).result(x, padded), wanted)
    for level in range(len(rows)):
        less = [count - 1 if at == level else count for at, count in enumerate(rows)]
        padded = pad(x, len(x) + 5, capacities=less)
        assert PaddedPass.run(net, padded).result(x, padded) is None


@torch.no_grad()
def test_an_output_on_coarser_voxels_loses_its_padding(device):
    net, x = Head().eval().to(device).down, cloud(device=device)
    wanted = net(x)
    padded = pad(x, len(x) + 5, capacities=[count + 9 for count in x.kernel_maps.downsampled_rows])
    found = PaddedPass.run(net, padded).result(x, padded)
    assert torch.equal(found.coords, wanted.coords) and found.tensor_stride == wanted.tensor_stride
    torch.testing.assert_close(found.feats, wanted.feats)


class GraphOnCpu:
    """Stands in for a CUDA graph: runs the function again, and spoils what it gave before, as a replay does."""

    def __init__(self, op, function, device):
        assert op == "capture" and device == torch.device("cpu") and not torch.is_inference_mode_enabled()
        self.function, self.result = function, function()

    def replay(self):
        padded, done = self.result
        for tensor in _tensors_of(done.out):
            if tensor is not padded.coords:  # which is filled before
                tensor.fill_(torch.nan if tensor.is_floating_point() else 77)
        self.result = self.function()
        return self.result


def _tensors_of(out):
    if isinstance(out, list | tuple):
        return [tensor for part in out for tensor in _tensors_of(part)]
    return [out.feats, out.coords] if isinstance(out, SparseTensor | PointTensor) else [out]


@pytest.fixture
def graphs_on_cpu(monkeypatch):
    monkeypatch.setattr(sys.modules["pcperc.nn.capture"], "CudaGraph", GraphOnCpu)


def test_any_number_of_voxels_gives_the_networks_result(caplog, graphs_on_cpu):
    check_captured(CapturedNetwork, "cpu", caplog)


@pytest.mark.gpu
def test_a_graph_gives_the_networks_result(caplog):
    check_captured(spnn.capture, "cuda", caplog)


def check_captured(make, device, caplog):
    net = network(device)
    captured = make(net, capacity=400, margin=1.5)
    kept = []
    with caplog.at_level(logging.WARNING):
        for count, seed in ((300, 0), (300, 1), (7, 2), (0, 3), (390, 4)):
            x = cloud(count, seed, device)
            with torch.inference_mode(seed % 2 == 1):
                found = captured(x)
            assert not found.feats.is_inference() and not found.requires_grad
            with torch.no_grad():
                kept.append((found, net(x)))
    assert not caplog.records
    for found, wanted in kept:  # no later call changed one
        torch.testing.assert_close(found.feats, wanted.feats, **tolerances(torch.float32, 1000))
    for count in (900, 1000):  # more than the capacity
        x = cloud(count, 5, device)
        with torch.no_grad():
            torch.testing.assert_close(captured(x).feats, net(x).feats, **tolerances(torch.float32, 1000))
    (warning,) = caplog.records
    assert "are more than its capacity of 400" in warning.message


@pytest.mark.parametrize("part", ["down", "map"])
def test_outputs_that_are_no_voxels_of_the_input_are_copied(part, graphs_on_cpu):
    net = Head().eval() if part == "map" else Head().eval().down
    captured = CapturedNetwork(net, capacity=400, margin=2.0)
    kept = []
    for seed in range(4):
        x = cloud(300, seed)
        with torch.no_grad():
            kept.append((captured(x), net(x)))
    for found, wanted in kept:
        if part == "map":
            torch.testing.assert_close(found, wanted)
            continue
        assert torch.equal(found.coords, wanted.coords)
        torch.testing.assert_close(found.feats, wanted.feats)


def test_what_is_known_of_the_input_changes_nothing(caplog, graphs_on_cpu):
    captured = CapturedNetwork(network(), capacity=400)
    x = cloud()
    spnn.SparseAvgPool3d(8)(x)  # a step down of few rows that is no part of the network
    with caplog.at_level(logging.WARNING):
        captured(x), captured(cloud(seed=1))
    assert not caplog.records and len(x.kernel_maps.downsampled_rows) == 1


def test_a_level_that_overflows_runs_without_the_graph(caplog, graphs_on_cpu):
    net = network()
    dense = torch.cartesian_prod(torch.zeros(1), *[torch.arange(6.0)] * 3).int()
    apart = dense * torch.tensor([1, 2, 2, 2], dtype=torch.int32)
    captured = CapturedNetwork(net, capacity=300, margin=1.0)
    for coords in (dense, apart):
        x = SparseTensor(coords, torch.randn(len(coords), 4), 1)
        with torch.no_grad():
            torch.testing.assert_close(captured(x).feats, net(x).feats)
    (warning,) = caplog.records
    assert "it makes more voxels than there is room for; a larger margin makes more" in warning.message


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x.feats, ValueError, r"without a row for each voxel, got \(400, 4\) for 400 voxels"),
        (lambda x: (x, x), TypeError, "^capture: results of a network of voxels must be .*, got tuple"),
        (lambda x: PointTensor(x.coords.abs().float(), x.feats, 3), TypeError, "got PointTensor"),
    ],
)
def test_what_a_network_of_voxels_may_not_give(change, error, message):
    with pytest.raises(error, match=message):
        PaddedPass.run(change, pad(cloud(), 400))


def test_what_is_wrong_is_said():
    x = cloud()
    with pytest.raises(ValueError, match="pad: capacity must be at least the .* voxels, got 5"):
        pad(x, 5)
    with pytest.raises(ValueError, match=r"eval mode \(model.eval\(\)\), got one in training mode"):
        CapturedNetwork(network().train(), capacity=10)
    with pytest.raises(ValueError, match="must keep running statistics, got one without: 1"):
        norm = spnn.BatchNorm(4, track_running_stats=False)
        CapturedNetwork(torch.nn.Sequential(spnn.BatchNorm(4), norm).eval(), capacity=10)
    with pytest.raises(ValueError, match="capture: the sparse tensor must have no padding"):
        CapturedNetwork(network(), capacity=400)(pad(x, 390))
    with pytest.raises(ValueError, match="margin must be >= 1, got 0.5"):
        CapturedNetwork(network(), capacity=10, margin=0.5)
    with pytest.raises(ValueError, match="for inference, and cannot be put into training mode"):
        CapturedNetwork(network(), capacity=10).train()
    with pytest.raises(ValueError, match="have no place in a padded pass"):
        spnn.SparseConvTranspose3d(4, 4, 2, stride=2)(pad(x, len(x) + 1))
    with pytest.raises(ValueError, match="^capture: inputs must be on a CUDA device, got cpu"):
        CapturedNetwork(network(), capacity=400)(x)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="needs a CUDA device, and torch sees none"):
            spnn.capture(network(), capacity=10)
