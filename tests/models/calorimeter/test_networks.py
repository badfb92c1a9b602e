# SPDX-License-Identifier: Apache-2.0
"""Calo-SPVCNN and GravNet: numbers of parameters, a GravNet convolution against a loop, events side by side."""

import numpy as np
import pytest
import torch

from pcperc import ops
from pcperc.models.calorimeter import CaloSPVCNN, GravNet, HitPreprocessor, gravnet
from pcperc.models.calorimeter.gravnet import GravNetConv, with_event
from pcperc.models.calorimeter.nearest import nearest_rows
from pcperc.sparse import PointTensor
from tests import oracles_calorimeter as oracle
from tests.calorimeter_events import made_event


def prepared(*showers, seed=0, voxel_size=4.0):
    rng = np.random.default_rng(seed)
    return HitPreprocessor(voxel_size).prepare([torch.from_numpy(made_event(rng, count)["hits"]) for count in showers])


def test_numbers_of_parameters():
    """Published: 5.74M at cr 0.5, 22.96M at cr 1 with an embedding of 8; 0.424M at 5 inputs and 4 outputs."""
    counts = [
        sum(p.numel() for p in network.parameters())
        for network in (
            CaloSPVCNN(5, 4, 8, width=0.5),
            CaloSPVCNN(5, 4, 8, width=1.0),
            GravNet(5, 1, 3),
        )
    ]
    assert counts == [5_744_220, 22_956_204, 423_798]


@pytest.mark.parametrize("count", [1, 7, 40])
def test_nearest_rows(count, device):
    rng = np.random.default_rng(0)
    x, items = rng.normal(size=(30, 4)).astype(np.float32), rng.permutation(np.repeat([0, 2, 3], [1, 9, 20]))
    segments = ops.make_segments(torch.tensor(items, device=device), num_segments=4)
    found = nearest_rows(torch.tensor(x, device=device), segments, count)
    assert found.dtype == torch.int32 and found.tolist() == oracle.nearest(x.astype(np.float64), items, count).tolist()
    empty = ops.make_segments(torch.zeros(0, dtype=torch.int64, device=device), num_segments=1)
    assert nearest_rows(torch.zeros(0, 4, device=device), empty, count).shape == (0, count)


def test_nearest_rows_leave_out_what_is_not_finite(device):
    x = torch.tensor([[0.0], [torch.nan], [4.0], [1.0], [torch.inf], [9.0]], device=device)
    segments = ops.make_segments(torch.tensor([1, 1, 1, 1, 1, -1], device=device), num_segments=2)
    missing = [-1, -1, -1, -1]
    expected = [[0, 3, 2, -1], missing, [2, 3, 0, -1], [3, 0, 2, -1], missing, missing]
    assert nearest_rows(x, segments, 4).tolist() == expected


def test_a_gravnet_convolution_equals_the_loop(device):
    torch.manual_seed(0)
    conv = GravNetConv(6, 5, space=4, sent=3, neighbors=4).to(device)
    feats, items = torch.randn(17, 6, device=device), torch.tensor([0] * 9 + [1] * 2 + [2] * 6, device=device)
    found = conv(feats, ops.make_segments(items, num_segments=4))
    layers = (conv.place, conv.send, conv.own, conv.heard)
    weights = [
        tuple(None if p is None else p.detach().double().cpu().numpy() for p in (layer.weight, layer.bias))
        for layer in layers
    ]
    expected = oracle.gravnet_conv(feats.double().cpu().numpy(), items.tolist(), weights, 4)
    np.testing.assert_allclose(found.detach().cpu().numpy(), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_hits_that_hear_in_parts_hear_the_same(device, monkeypatch):
    torch.manual_seed(0)
    conv = gravnet.GravNetConv(6, 5, space=3, sent=4, neighbors=7).to(device)
    x, items = torch.randn(50, 6, device=device), ops.make_segments(torch.arange(50, device=device) % 3, num_segments=3)
    whole, sizes = conv(x, items), []
    hear = gravnet.hear
    monkeypatch.setattr(gravnet, "hear", lambda table, rows, place: sizes.append(len(rows)) or hear(table, rows, place))
    for name in ("MAX_TABLE_BYTES", "MAX_TABLE_BYTES_ON_CPU"):
        monkeypatch.setattr(gravnet, name, 4 * 7 * 7 * 20)
    assert torch.equal(conv(x, items), whole) and sizes == [20, 20, 10]
    with torch.enable_grad():  # a step keeps the whole table for its gradient all the same
        conv(x, items)
    assert sizes == [20, 20, 10, 50]


def test_what_the_whole_event_says():
    feats, items = torch.tensor([[1.0], [3.0], [-5.0]]), ops.make_segments(torch.tensor([0, 0, 2]), num_segments=3)
    assert with_event(feats, items).tolist() == [[2, 1, 3, 1], [2, 1, 3, 3], [-5, -5, -5, -5]]


def test_gravnet_equals_the_loops(device):
    """With statistics of its norms that are not those of a new network, and events of fewer hits than neighbours."""
    torch.manual_seed(0)
    net = GravNet(5, 3, 4, blocks=2, channels=12, space=3, sent=7, neighbors=5).to(device).eval()
    for name, values in net.named_buffers():
        if name.endswith(("mean", "var")):
            values.copy_(0.5 + torch.rand_like(values))
    feats, items = torch.randn(23, 5, device=device), torch.tensor([0] + [2] * 2 + [3] * 4 + [4] * 16, device=device)
    coords = torch.cat([items[:, None].float(), torch.randn(23, 3, device=device)], 1)
    found = torch.cat(net(PointTensor(coords, feats, 6)), 1)
    state = {key: values.double().cpu().numpy() for key, values in net.state_dict().items()}
    expected = oracle.gravnet(feats.double().cpu().numpy(), items.tolist(), state, 2, 5)
    np.testing.assert_allclose(found.detach().cpu().numpy(), expected, rtol=1e-3, atol=1e-5)


def test_published_numbers_of_neighbours():
    assert [block.conv.neighbors for block in GravNet().blocks] == [40] * 4


def network(name):
    torch.manual_seed(0)
    if name == "spvcnn":
        return CaloSPVCNN(5, 3, 4, width=0.125).eval()
    return GravNet(5, 3, 4, channels=16, neighbors=6).eval()


@pytest.mark.parametrize("name", ["spvcnn", "gravnet"])
def test_events_of_a_batch_do_not_meet(name):
    """An event gives the same alone, in a batch, beside an empty one, and with its hits in another order."""
    net, together = network(name), prepared(2, 3)
    first, second = together.sizes
    found = net(together.points)
    alone = net(prepared(2).points)
    for ours, theirs in zip(found, alone, strict=True):
        torch.testing.assert_close(ours[:first], theirs, rtol=1e-4, atol=1e-5)
    rng = np.random.default_rng(0)
    hits = torch.from_numpy(made_event(rng, 2)["hits"])
    order = torch.randperm(len(hits))
    mixed = net(HitPreprocessor(4.0).prepare([hits[:0], hits[order], hits[:0]]).points)
    for ours, theirs in zip(mixed, alone, strict=True):
        torch.testing.assert_close(ours, theirs[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["spvcnn", "gravnet"])
@pytest.mark.parametrize("count", [0, 1])
def test_events_of_no_or_one_hit(name, count):
    hits = torch.from_numpy(made_event(np.random.default_rng(0), 1)["hits"])[:count]
    found = network(name)(HitPreprocessor(4.0).prepare([hits]).points)
    assert found.logits.shape == (count, 3) and found.embedding.shape == (count, 4)
    assert all(values.isfinite().all() for values in found)


@pytest.mark.parametrize("name", ["spvcnn", "gravnet"])
def test_every_parameter_gets_a_gradient(name, device):
    net = network(name).train().to(device)
    hits = torch.from_numpy(made_event(np.random.default_rng(0), 3)["hits"]).to(device)
    found = net(HitPreprocessor(4.0).to(device).prepare([hits]).points)
    sum(values.square().sum() for values in found).backward()
    without = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


def test_an_input_that_is_no_points():
    with pytest.raises(TypeError, match="GravNet: points must be a PointTensor"):
        network("gravnet")(torch.zeros(3, 5))


@pytest.mark.parametrize(
    "network, options, message",
    [
        *((GravNet, {name: 0}, f"{name} must be >= 1, got 0") for name in ("blocks", "channels", "sent", "neighbors")),
        (GravNet, {"space": 0}, "space must be from 1 to 16, got 0"),
        (GravNet, {"space": 17}, "space must be from 1 to 16, got 17"),
        (GravNet, {"in_channels": 0}, "in_channels must be >= 1, got 0"),
        (CaloSPVCNN, {"embedding_channels": 0}, "embedding_channels must be >= 1, got 0"),
        (CaloSPVCNN, {"num_classes": -1}, "num_classes must be >= 1, got -1"),
        (CaloSPVCNN, {"dropout": 2.0}, r"dropout must be in \[0, 1\], got 2.0"),
        (CaloSPVCNN, {"dropout": float("nan")}, r"dropout must be in \[0, 1\], got nan"),
        (CaloSPVCNN, {"width": float("nan")}, "width must be finite and > 0, got nan"),
        (CaloSPVCNN, {"width": 0.01}, r"widths must be nine numbers >= 1, got \(0, .*"),
    ],
)
def test_numbers_out_of_range(network, options, message):
    with pytest.raises(ValueError, match=f"^{network.__name__}: {message}$"):
        network(**options)


def test_numbers_that_are_not_whole():
    with pytest.raises(TypeError, match="^GravNet: neighbors must be a whole number, got 40.0$"):
        GravNet(neighbors=40.0)
