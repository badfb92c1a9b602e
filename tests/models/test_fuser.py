# SPDX-License-Identifier: Apache-2.0
"""The fuser of a second stage: what an untrained one hands on."""

import torch

from pcperc.models.bevfusion import ConvFuser, fuser


def maps(batch_size=4):
    camera = torch.rand(batch_size, 2, 5, 6)
    return camera, torch.relu(torch.randn(batch_size, 3, 5, 6) - 1) * torch.tensor([1.0, 5.0, 0.2]).view(3, 1, 1)


def test_the_first_batch_comes_out_as_it_went_in():
    camera, lidar = maps()
    net = ConvFuser((2, 3), 3, passes=1).train()
    torch.testing.assert_close(net([camera, lidar]), lidar)
    net([camera, lidar]).square().sum().backward()
    assert net.conv.conv.weight.grad[:, :2].abs().sum() > 0  # the other modality is learned from the first step


def test_half_precision_keeps_the_map_too():
    camera, lidar = (one.to(torch.bfloat16) for one in maps())
    net = ConvFuser((2, 3), 3, passes=1).train()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(net([camera, lidar]).float(), lidar.float(), atol=0.05, rtol=0.02)


def test_only_an_untrained_fuser_is_set_by_a_batch():
    net = ConvFuser((2, 3), 3, passes=1).train()
    net(maps())
    weight = net.conv.norm.weight.clone()
    net([one * 7 for one in maps()])
    assert torch.equal(net.conv.norm.weight, weight)
    resumed = ConvFuser((2, 3), 3, passes=1).train()
    resumed.load_state_dict(net.state_dict())
    resumed([one * 7 for one in maps()])
    assert torch.equal(resumed.conv.norm.weight, weight)
    as_published = ConvFuser((2, 3), 3).train()
    as_published(maps())
    assert torch.equal(as_published.conv.norm.weight, torch.ones(3))


def test_all_processes_take_the_moments_of_all(monkeypatch):
    monkeypatch.setattr(fuser, "mean_over_processes", lambda moments: moments * 0 + torch.tensor([[2.0], [13.0]]))
    net = ConvFuser((2, 3), 3, passes=1).train()
    net(maps())
    torch.testing.assert_close(net.conv.norm.bias, torch.full((3,), 2.0))
    torch.testing.assert_close(net.conv.norm.weight, torch.full((3,), 3.0))
