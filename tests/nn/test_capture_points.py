# SPDX-License-Identifier: Apache-2.0
"""Networks of points over padding equal those without, on a CPU too; captured ones, on a GPU, equal the network."""

import logging
import sys

import pytest
import torch
from torch import nn

import pcperc.nn as spnn
from pcperc import PointTensor
from pcperc.models.calorimeter import CaloSPVCNN, GravNet
from pcperc.models.minkunet import MinkUNet
from pcperc.models.on_voxels import OnVoxels
from pcperc.models.spvcnn import SPVCNN
from pcperc.nn.capture import CapturedNetwork
from pcperc.nn.padded_pass import PaddedPass
from pcperc.sparse.padding import new_rows, pad, with_own_cache
from tests.nn.test_capture import ReplayedOnCpu
from tests.tolerances import tolerances

NETWORKS = {
    "voxels": lambda: OnVoxels(MinkUNet(4, 3, width=0.25)),
    "points and voxels": lambda: SPVCNN(4, 3, width=0.25),
    "quantized": lambda: SPVCNN(4, 3, width=0.25, quantized=True),
    "two heads": lambda: CaloSPVCNN(4, 3, 2, width=0.25),
    "neighbours": lambda: GravNet(4, 3, 2, neighbors=5),
}


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


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_the_same_over_padding(name, device):
    net, x = network(name, device), cloud(300, device=device)
    wanted, rows = net(x), new_rows(x)
    has_voxels = name != "neighbours"
    assert len(rows) == (5 if has_voxels else 1) and (0 < rows[0] <= 300) == has_voxels
    padded = pad(x, 377, capacities=[count + 13 for count in rows])
    done = PaddedPass.run(net, padded)
    assert not has_voxels or new_rows(padded) == [count + 13 for count in rows]
    found = done.result(x, padded)
    check_close(found, wanted)
    if isinstance(found, PointTensor):
        assert found.coords is x.coords  # the points themselves, not those of the buffer
    for level in range(len(rows) if has_voxels else 0):
        less = [count - 1 if at == level else count for at, count in enumerate(rows)]
        padded = pad(x, 305, capacities=less)
        assert PaddedPass.run(net, padded).result(x, padded) is None


@torch.no_grad()
def test_points_in_many_rows_share_their_voxels_as_they_do_without_padding(device):
    x = cloud(500, edge=4.0, device=device)
    wanted = with_own_cache(x).voxels(2)
    padded = pad(x, 600, capacities=[100])
    found = padded.voxels(2)
    count = len(wanted.coords)
    assert torch.equal(found.coords[:count], wanted.coords) and (found.coords[count:, 0] == -1).all()
    assert len(found.coords) == 100 and found.tensor_stride == (2, 2, 2)
    index = padded.segments(found).index
    assert torch.equal(index[:500], with_own_cache(x).segments(wanted).index) and (index[500:] == -1).all()
    assert (padded.items.index[500:] == -1).all() and padded.items.starts.diff().sum() == 500


def test_any_number_of_points_gives_the_networks_result(caplog, monkeypatch):
    monkeypatch.setattr(sys.modules["pcperc.nn.capture"], "_Graph", ReplayedOnCpu)
    check_captured(CapturedNetwork, network("points and voxels"), "cpu", caplog)


@pytest.mark.gpu
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_gives_the_networks_result(name, fused, caplog):
    if fused and name == "neighbours":
        pytest.skip("nothing in it is fused")
    check_captured(spnn.capture, network(name, "cuda", fused=fused), "cuda", caplog)


def check_captured(make, net, device, caplog):
    captured = make(net, capacity=400, margin=1.5)
    with caplog.at_level(logging.WARNING):
        for count, seed in ((300, 0), (300, 1), (7, 2), (0, 3), (390, 4), (400, 5)):
            x = cloud(count, seed, device)
            with torch.inference_mode(seed % 2 == 1):
                found = captured(x)
            with torch.no_grad():
                check_close(found, net(x))
        assert not caplog.records
        for count in (401, 1000):
            x = cloud(count, 5, device)
            with torch.no_grad():
                check_close(captured(x), net(x))
    (warning,) = caplog.records
    assert "401 points are more than its capacity of 400" in warning.message


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_graph_under_autocast(dtype):
    net = network("points and voxels", "cuda", fused=True)
    captured = spnn.capture(net, capacity=400)
    for seed in range(3):
        x = cloud(300 + seed, seed, "cuda")
        with torch.no_grad():
            plain = net(x)
            with torch.autocast("cuda", dtype):
                wanted, found = net(x), captured(x)
                again = captured(x)
        assert torch.equal(found.feats, again.feats) and found.dtype == wanted.dtype
        check_close(found, wanted)
        assert not torch.equal(found.feats.float(), plain.feats)


def test_voxels_that_find_no_room_run_without_the_graph(caplog, monkeypatch):
    monkeypatch.setattr(sys.modules["pcperc.nn.capture"], "_Graph", ReplayedOnCpu)
    net = network("points and voxels")
    captured = CapturedNetwork(net, capacity=300, margin=1.0)
    for edge in (4.0, 60.0):  # many points in a voxel, then one
        x = cloud(300, edge=edge)
        with torch.no_grad():
            check_close(captured(x), net(x))
    (warning,) = caplog.records
    assert "a coarser level has more voxels than it has room for" in warning.message


def test_room_for_voxels_is_that_of_the_points_at_most():
    captured = CapturedNetwork(network("points and voxels"), capacity=1000, margin=2.0)
    x = cloud(100, edge=100.0)
    with torch.no_grad():
        captured.model(x)
    rows = new_rows(x)
    assert rows[0] > 90  # nearly every point has its own
    assert captured._capacities(x) == [1000] + [-(-1000 * 2 * count // 100) for count in rows[1:]]


class Gives(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_results_in_containers_lose_their_padding():
    x = cloud(20)
    padded = pad(x, 30, capacities=[30])
    net = Gives(lambda x: {"rows": x.feats[:, 0] * 2, "points": [x.replace(feats=x.feats + 1)]})
    found = PaddedPass.run(net, padded).result(x, padded)
    assert torch.equal(found["rows"], x.feats[:, 0] * 2)
    (points,) = found["points"]
    assert points.place is x.place and torch.equal(points.feats, x.feats + 1)
    padded.feats.fill_(7)  # as the next replay does
    assert torch.equal(found["rows"], x.feats[:, 0] * 2)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: x.feats.sum(), ValueError, r"a row for each of the 30 points, got \(\)"),
        (lambda x: x.feats[:4], ValueError, r"a row for each of the 30 points, got \(4, 4\)"),
        (lambda x: x.take(torch.arange(30, dtype=torch.int32)), ValueError, "must be of the same points, got others"),
        (lambda x: spnn.point_to_voxel(x), TypeError, "capture: results must be tensors, .*, got SparseTensor"),
        (lambda x: None, TypeError, "got NoneType"),
    ],
)
def test_what_a_network_of_points_may_not_give(function, error, message):
    padded = pad(cloud(20), 30, capacities=[30])
    with pytest.raises(error, match=message):
        PaddedPass.run(Gives(function), padded)


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="pad: capacity must be at least the 20 points, got 5"):
        pad(cloud(20), 5)
    with pytest.raises(TypeError, match="CapturedNetwork: input must be a SparseTensor or a PointTensor, got Tensor"):
        CapturedNetwork(network("voxels"), capacity=10)(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="^capture: inputs must be on a CUDA device, got cpu"):
        CapturedNetwork(network("voxels"), capacity=400)(cloud(20))
