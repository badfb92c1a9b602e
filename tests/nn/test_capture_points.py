# SPDX-License-Identifier: Apache-2.0
"""Captured networks of points equal the network: with graphs on a GPU, with what stands for graphs on a CPU too."""

import logging

import pytest
import torch

import pcperc.nn as spnn
from pcperc import PointTensor, SparseTensor
from pcperc.nn.capture import CapturedNetwork
from pcperc.sparse.padding import new_rows, pad
from tests.nn.point_networks import NETWORKS, Gives, check_close, cloud, network, numbers
from tests.nn.test_capture import graphs_on_cpu as graphs_on_cpu  # a fixture


@pytest.mark.parametrize("name", NETWORKS)
def test_any_number_of_points_gives_the_networks_result(name, graphs_on_cpu, caplog):
    check_captured(CapturedNetwork, network(name), "cpu", caplog)


@pytest.mark.gpu
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_gives_the_networks_result(name, fused, caplog):
    if fused and name == "neighbours":
        pytest.skip("nothing in it is fused")
    check_captured(spnn.capture, network(name, "cuda", fused=fused), "cuda", caplog)


def check_captured(make, net, device, caplog):
    captured = make(net, capacity=400, margin=1.5)
    kept = []
    with caplog.at_level(logging.WARNING):
        for count, seed in ((300, 0), (300, 1), (7, 2), (0, 3), (390, 4), (400, 5)):
            x = cloud(count, seed, device)
            with torch.inference_mode(seed % 2 == 1):
                found = captured(x)
            assert not any(part.is_inference() or part.requires_grad for part in numbers(found))
            assert not isinstance(found, PointTensor) or found.place is x.place  # the points themselves
            with torch.no_grad():
                kept.append((found, net(x)))
        assert not caplog.records
        for found, wanted in kept:  # no later call changed one
            check_close(found, wanted)
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


def test_voxels_that_find_no_room_run_without_the_graph(caplog, graphs_on_cpu):
    net = network("points and voxels")
    captured = CapturedNetwork(net, capacity=300, margin=1.0)
    for edge in (4.0, 60.0):  # many points in a voxel, then one
        x = cloud(300, edge=edge)
        with torch.no_grad():
            check_close(captured(x), net(x))
    (warning,) = caplog.records
    assert "it makes more voxels than there is room for; a larger margin makes more" in warning.message


def test_room_for_voxels_is_that_of_the_points_at_most():
    captured = CapturedNetwork(network("points and voxels"), capacity=1000, margin=2.0)
    x = cloud(100, edge=100.0)
    with torch.no_grad():
        captured.model(x)
    rows = new_rows(x)
    assert rows[0] > 90  # nearly every point has its own
    assert captured._capacities(x) == [1000] + [-(-1000 * 2 * count // 100) for count in rows[1:]]


@torch.no_grad()
def test_what_is_known_of_the_points_changes_nothing(caplog, graphs_on_cpu):
    x, net = cloud(300), network("points and voxels")
    captured = CapturedNetwork(net, capacity=400)
    spnn.SparseAvgPool3d(16)(spnn.point_to_voxel(x))  # a step down of few rows that is no part of the network
    with caplog.at_level(logging.WARNING):
        captured(x)
        check_close(captured(cloud(300, 1)), net(cloud(300, 1)))
    assert not caplog.records and len(x.kernel_maps.downsampled_rows) == 1


@torch.no_grad()
def test_each_form_of_input_has_a_graph_of_its_own(graphs_on_cpu, monkeypatch):
    captured = CapturedNetwork(Gives(lambda x: x.replace(feats=x.feats * 2)).eval(), capacity=30)
    x = cloud(20)
    plane = PointTensor(x.coords[:, :3], x.feats, 3)
    forms = [x, plane, PointTensor(x.coords, x.feats, 4), PointTensor(x.coords.double(), x.feats, 3), x.double()]
    forms += [x.replace(feats=x.feats[:, :2])]
    voxels = x.coords.floor().int().unique(dim=0)
    feats = torch.randn(len(voxels), 4)
    forms += [SparseTensor(voxels, feats, 3, tensor_stride=stride) for stride in (1, 2)]
    forms += [SparseTensor(voxels.clamp(min=0).unique(dim=0)[:1], feats[:1], 3, spatial_shape=99)]
    assert torch.equal(captured(cloud(0)).feats, torch.zeros(0, 4)) and not captured._graphs  # nothing to learn of
    for turn in range(2):
        for count, form in enumerate(forms, start=1):
            found = captured(form)
            assert len(captured._graphs) == (count if turn == 0 else len(forms))
            assert type(found) is type(form) and torch.equal(found.feats, form.feats * 2)
            assert torch.equal(found.coords, form.coords) and found.batch_size == form.batch_size
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", not torch.backends.cudnn.deterministic)
    captured(x)
    assert len(captured._graphs) == 1 + len(forms)


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="pad: capacity must be at least the 20 points, got 5"):
        pad(cloud(20), 5)
    with pytest.raises(ValueError, match="PointTensor.voxels: capacities must have one for the voxels .*, got none"):
        pad(cloud(20), 30).voxels()
    with pytest.raises(TypeError, match="CapturedNetwork: input must be a SparseTensor or a PointTensor, got Tensor"):
        CapturedNetwork(network("voxels"), capacity=10)(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="^capture: inputs must be on a CUDA device, got cpu"):
        CapturedNetwork(network("voxels"), capacity=400)(cloud(20))
