# SPDX-License-Identifier: Apache-2.0
"""Subnets share weights by their first channels, and extracted give what they gave in the super network."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

import pcperc.nn as spnn
from pcperc.models import SPVCNN, SPVNAS
from pcperc.models.spvnas import SearchSpace, Subnet, sort_inner_channels
from tests import oracles_points
from tests.nn.blocks import randomised
from tests.sparse.test_point_tensor import random_points

SPACE = SearchSpace((16, 32, 32, 48, 48, 48, 32, 32, 32), (16,) * 9)
SUBNET = Subnet(
    widths=(16, 32, 16, 32, 48, 16, 32, 16, 32),
    transitions=(16, 16, 32, 32, 32, 16, 16, 32),
    inner_widths=((16,), (32, 16), (16, 16), (48,), (16, 48), (16,), (32, 32), (16, 32)),
)


def super_network(**options) -> SPVNAS:
    return randomised(SPVNAS(3, 5, **{"space": SPACE, **options}))


def points_of(count=80, **options):
    return random_points(count, low=0, high=16, **{"dtype": torch.float32, **options})


def first_channels(state, subnet):
    """The part of the largest network's weights that a subnet uses, said stage by stage."""
    part, largest = {}, SPACE.largest()

    def keep(key, outputs, inputs=None):
        for name, values in state.items():
            if name == f"{key}.conv.weight":
                part[name] = values[..., inputs, :][..., :outputs]
            elif name.startswith(f"{key}.norm."):
                part[name] = values[:outputs] if values.ndim else values

    keep("stem.0", subnet.widths[0], np.arange(3))
    keep("stem.1", subnet.widths[0], np.arange(subnet.widths[0]))
    for i in range(8):
        side, number, step = ("down", i, "down") if i < 4 else ("up", i - 4, "up")
        key, transition = f"{side}_stages.{number}", subnet.transitions[i]
        keep(f"{key}.{step}", transition, np.arange(subnet.widths[i]))
        inputs = np.arange(transition)
        if side == "up":
            skip = np.arange(subnet.widths[3 - number])
            inputs = np.concatenate([inputs, largest.transitions[i] + skip])
        keep(f"{key}.blocks.0.shortcut", subnet.widths[i + 1], inputs)
        for block, inner in enumerate(subnet.inner_widths[i]):
            keep(f"{key}.blocks.{block}.block1", inner, inputs)
            keep(f"{key}.blocks.{block}.block2", subnet.widths[i + 1], np.arange(inner))
            inputs = np.arange(subnet.widths[i + 1])
    for number, (a, b) in enumerate(((0, 4), (4, 6), (6, 8))):
        for name, values in state.items():
            if name == f"point_transforms.{number}.0.weight":
                part[name] = values[: subnet.widths[b], : subnet.widths[a]]
            elif name.startswith(f"point_transforms.{number}."):
                part[name] = values[: subnet.widths[b]] if values.ndim else values
    part["classifier.weight"] = state["classifier.weight"][:, : subnet.widths[8]]
    return {**part, "classifier.bias": state["classifier.bias"]}


def test_a_subnet_is_the_formulas_over_the_first_channels(device):
    net, points = super_network().double(), points_of(dtype=torch.float64)
    state = first_channels({k: v.numpy() for k, v in net.net.state_dict().items()}, SUBNET)
    net.set_subnet(SUBNET)
    with torch.no_grad():
        found = net.to(device)(points.to(device)).feats.cpu().numpy()
    expected = oracles_points.SPVCNN(state)(points.coords.numpy(), points.feats.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)
    extracted = net.extract().state_dict()
    assert set(extracted) == set(state)
    for key, values in state.items():
        assert np.array_equal(extracted[key].cpu().numpy(), values), key


@pytest.mark.parametrize("training", [False, True])
def test_extracted_gives_what_it_gave_in_the_super_network(training):
    net, points, rng = super_network(dropout=0.0).train(training), points_of(), np.random.default_rng(0)
    for subnet in (net.largest(), net.smallest(), SUBNET, *(net.sample(rng) for _ in range(3))):
        net.set_subnet(subnet)
        plain = net.extract()
        assert type(plain) is SPVCNN and plain.training == training and net.subnet == subnet
        assert torch.equal(net(points).feats, plain(points).feats)
        assert plain.state_dict().keys() == SPVCNN(3, 5, **subnet.options).state_dict().keys()
    expected = net.net(points).feats
    net.set_subnet(net.largest())
    assert torch.equal(net(points).feats, expected)


def test_what_is_extracted_is_a_copy_that_learns():
    net, points = super_network(), points_of()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    plain = net.extract(SUBNET).train()
    optimizer = torch.optim.SGD(plain.parameters(), 0.1)
    plain(points).feats.square().sum().backward()
    optimizer.step()
    assert all(p.grad is not None for p in plain.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert net.subnet == SPACE.largest()


def test_gradients_and_statistics_reach_the_first_channels_alone():
    net, points = super_network().train(), points_of()
    net.set_subnet(SUBNET)
    before = {key: value.clone() for key, value in net.net.state_dict().items()}
    net(points).feats.square().sum().backward()
    gradient = net.net.up_stages[0].blocks[0].block1.conv.weight.grad.abs().sum((0, 1, 2)) > 0  # (48 + 48, 48)
    used = torch.zeros(96, 48, dtype=torch.bool)
    used[:32, :16] = used[48:80, :16] = True  # reads 32 and 32 channels, makes 16
    assert not gradient[~used].any() and gradient[:32].any() and gradient[48:80].any()
    assert net.net.down_stages[0].blocks[1].block1.conv.weight.grad is None
    after, norm = net.net.state_dict(), "down_stages.2.blocks.0.block2.norm."
    for name in ("running_mean", "running_var"):
        changed = after[norm + name] != before[norm + name]
        assert changed[:32].all() and not changed[32:].any()
    assert after[norm + "num_batches_tracked"] == before[norm + "num_batches_tracked"] + 1


def test_sorted_channels_change_nothing_but_what_subnets_start_from():
    net, points = super_network().double(), points_of(dtype=torch.float64)
    net.set_subnet(SUBNET)
    with torch.no_grad():
        whole, part = net.net(points).feats, net(points).feats
        before = net.net.state_dict()["up_stages.1.blocks.1.block1.conv.weight"].clone()
        sort_inner_channels(net.net)
        torch.testing.assert_close(net.net(points).feats, whole, rtol=1e-10, atol=1e-10)
        assert not torch.allclose(net(points).feats, part)
    block = net.net.up_stages[1].blocks[1]
    importance = block.block2.conv.weight.abs().sum((0, 1, 2, 4))
    assert (importance.diff() <= 0).all()
    assert torch.equal(block.block1.conv.weight.sort(-1).values, before.sort(-1).values)
    stage = net.net.up_stages[1]
    reading = (stage.blocks[0].block1.conv, stage.blocks[0].shortcut.conv)
    importance = sum(conv.weight[..., :32, :].abs().sum((0, 1, 2, 4)) for conv in reading)
    assert (importance.diff() <= 1e-9).all()
    plain = randomised(SPVCNN(3, 5, widths=(4, 4, 5, 6, 7, 7, 6, 5, 4))).double()  # its first stage has no projection
    with torch.no_grad():
        expected = plain(points).feats
        sort_inner_channels(plain)
        torch.testing.assert_close(plain(points).feats, expected, rtol=1e-10, atol=1e-10)


def test_statistics_are_measured_for_the_subnet_that_is_set():
    net = super_network()
    batches = [points_of(), points_of(), points_of()]
    net.set_subnet(SUBNET)
    plain = net.extract()
    spnn.recalibrate_batch_norm(net, batches)
    spnn.recalibrate_batch_norm(plain, batches)
    for (name, found), expected in zip(net.extract().state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(found, expected), name
    assert not net.training and net.net.stem[0].norm.momentum == 0.1


def test_modes_and_kinds_of_norms_are_those_of_the_super_network():
    net, points = spnn.convert_sync_batchnorm(super_network()), points_of()
    assert torch.equal(net(points).feats, net.extract()(points).feats)
    assert isinstance(net.extract().stem[0].norm, spnn.SyncBatchNorm)
    net.train()
    for module in net.modules():
        if isinstance(module, spnn.SyncBatchNorm):
            module.eval()
    before = net.net.stem[0].norm.running_mean.clone()
    net(points)
    assert torch.equal(net.net.stem[0].norm.running_mean, before) and not net.extract().stem[0].norm.training


def test_copies_moves_and_saves_like_any_network():
    net, points = super_network(), points_of(dtype=torch.float64)
    net.set_subnet(SUBNET)
    expected = net.double()(points).feats
    assert torch.equal(copy.deepcopy(net)(points).feats, expected)
    other = SPVNAS(3, 5, space=SPACE).double().eval()
    other.load_state_dict(net.state_dict())
    other.set_subnet(SUBNET)
    assert torch.equal(other(points).feats, expected)
    assert all(key.startswith("net.") for key in net.state_dict())


def test_an_extracted_subnet_is_fused_and_the_super_network_says_so():
    net, points = super_network(), points_of()
    with torch.no_grad():
        plain = net.extract(SUBNET)
        torch.testing.assert_close(spnn.fuse(plain)(points).feats, plain(points).feats, rtol=1e-3, atol=1e-3)
        with pytest.raises(RuntimeError, match=r"SPVNAS: net must be as it was built, .* extract\(\)"):
            spnn.fuse(net)(points)


def test_a_subnet_that_does_not_fit_is_named():
    net = super_network()
    with pytest.raises(ValueError, match=r"SPVNAS: widths\[4\] of the subnet must be one of 16, 32, 48, got 64"):
        net.set_subnet(dataclasses.replace(SUBNET, widths=(16, 32, 16, 32, 64, 16, 32, 16, 32)))
    with pytest.raises(TypeError, match="SPVNAS: subnet must be a Subnet, got dict"):
        net.extract({})
    assert net.subnet == SPACE.largest()


@pytest.mark.parametrize("count", [0, 1])
def test_few_points(count):
    net = super_network().train()
    net.set_subnet(SUBNET)
    out = net(points_of(count))
    assert out.feats.shape == (count, 5)
    out.feats.sum().backward()
