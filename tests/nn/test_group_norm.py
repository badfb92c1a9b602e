# SPDX-License-Identifier: Apache-2.0
"""Norms over batch items and voxels, squeeze-excite and interpolation layers."""

import copy

import pytest
import torch
import torch.nn.functional as F

import pcperc.nn as spnn
from pcperc import SparseTensor, ops
from tests.nn.test_conv import full_grid
from tests.op_contract import assert_twice_differentiable
from tests.ops.clouds import coords_of, random_coords

NORMS = {
    "group_1": lambda: spnn.GroupNorm(1, 6),
    "group_2": lambda: spnn.GroupNorm(2, 6, eps=1e-3),
    "group_plain": lambda: spnn.GroupNorm(3, 6, affine=False),
    "instance": lambda: spnn.InstanceNorm(6),
    "instance_affine": lambda: spnn.InstanceNorm(6, affine=True, eps=1e-2),
    "layer": lambda: spnn.LayerNorm(6, eps=1e-4),
}


def norm_of(name):
    layer = NORMS[name]().double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer


def dense_norm(layer, grid):
    if isinstance(layer, spnn.LayerNorm):
        moved = grid.movedim(1, -1)
        return F.layer_norm(moved, (6,), layer.weight, layer.bias, layer.eps).movedim(-1, 1)
    return torch.group_norm(grid, layer.num_groups, layer.weight, layer.bias, layer.eps)


@pytest.mark.parametrize("name", NORMS)
def test_norms_of_a_full_grid_equal_torchs(name, device):
    x, layer = full_grid(channels=6, device=device), norm_of(name).to(device)
    y, dense = layer(x), dense_norm(layer, x.dense())
    assert y.topology is x.topology
    torch.testing.assert_close(y.dense(), dense)
    leaves = [x.feats, *layer.parameters()]
    upstream = torch.randn_like(dense)
    wanted = torch.autograd.grad(dense, leaves, upstream)
    for got, expected in zip(torch.autograd.grad(y.dense(), leaves, upstream), wanted, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", NORMS)
def test_norms_treat_each_batch_item_alone(name):
    """Also items in shuffled rows, one of them far away from 0, and one of one voxel."""
    coords = random_coords(80, batch_size=3)
    coords = torch.cat([coords[:20], coords_of((4, 1, 1, 1)), coords[20:]])
    feats = torch.randn(len(coords), 6, dtype=torch.float64)
    feats[coords[:, 0] == 2] += 1e4
    layer = norm_of(name)
    y = layer(SparseTensor(coords, feats, 6))
    for item in (0, 1, 2, 4):
        rows = coords[:, 0] == item
        wanted = dense_norm(layer, feats[rows].T[None])[0].T
        torch.testing.assert_close(y.feats[rows], wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_normalised_in_float32(name, dtype, device):
    """Values whose squares overflow float16, and whose mean bfloat16 could not hold beside the deviations."""
    coords = random_coords(60).to(device)
    feats = (1000 + 8 * torch.randn(len(coords), 6, device=device)).to(dtype)
    layer = norm_of(name).to(device)
    wanted = layer(SparseTensor(coords, feats.double())).feats
    got = (
        layer.float()(SparseTensor(coords, feats)) if name != "layer" else layer.to(dtype)(SparseTensor(coords, feats))
    )
    assert got.dtype == dtype
    torch.testing.assert_close(got.feats.double(), wanted, rtol=2**-6, atol=2**-6)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("rows", [0, 1])
def test_empty_and_one_voxel_items_are_well_defined(name, rows, device):
    layer = norm_of(name).to(device)
    feats = torch.randn(rows, 6, dtype=torch.float64, device=device, requires_grad=True)
    y = layer(SparseTensor(coords_of((1, 0, 0, 0))[:rows].to(device), feats, 3))
    y.feats.square().sum().backward()
    assert y.feats.isfinite().all() and feats.grad.isfinite().all()
    if rows and "instance" in name:
        bias = torch.zeros(6, dtype=torch.float64) if layer.bias is None else layer.bias.detach().cpu()
        assert torch.equal(y.feats.detach().cpu()[0], bias)


def test_group_norm_has_second_derivatives():
    coords = random_coords(6, low=0, high=1)
    layer = spnn.GroupNorm(2, 4).double()
    feats = torch.randn(len(coords), 4, dtype=torch.float64, requires_grad=True)

    def run(feats):
        return layer(SparseTensor(coords, feats, 2)).feats

    assert torch.autograd.gradcheck(run, [feats])
    assert_twice_differentiable(run, [feats])


def test_the_rows_of_a_topology_are_grouped_once(monkeypatch):
    made = []
    make = ops.make_segments
    monkeypatch.setattr(ops, "make_segments", lambda *a, **k: made.append(1) or make(*a, **k))
    x = full_grid(channels=6)
    y = torch.nn.Sequential(norm_of("group_2"), norm_of("instance"), spnn.SqueezeExcite(6, 2).double())(x)
    spnn.GlobalPool("mean")(y)
    assert made == [1]


def test_squeeze_excite_equals_the_dense_layer(device):
    x = full_grid(channels=6, device=device)
    layer = spnn.SqueezeExcite(6, reduction=3).double().to(device)
    y = layer(x)
    grid = x.dense()
    gates = torch.sigmoid(layer.excite(F.relu(layer.squeeze(grid.mean((2, 3, 4))))))
    wanted = grid * gates[:, :, None, None, None]
    torch.testing.assert_close(y.dense(), wanted)
    leaves, upstream = [x.feats, *layer.parameters()], torch.randn_like(wanted)
    expected = torch.autograd.grad(wanted, leaves, upstream)
    for got, value in zip(torch.autograd.grad(y.dense(), leaves, upstream), expected, strict=True):
        torch.testing.assert_close(got, value)


def test_squeeze_excite_in_half_precision_and_without_voxels(device):
    layer = spnn.SqueezeExcite(6).to(device)
    assert layer.squeeze.out_features == 1
    coords = random_coords(30).to(device)
    x = SparseTensor(coords, torch.randn(len(coords), 6, device=device))
    with torch.autocast(device.type, torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.float32
    half = layer(x.replace(feats=x.feats.half()))
    torch.testing.assert_close(half.feats, layer(x).feats.half(), rtol=2**-9, atol=2**-9)
    assert layer(SparseTensor(coords[:0], torch.zeros(0, 6, device=device), 2)).feats.shape == (0, 6)


def test_interpolate_reads_the_tensor_at_its_own_voxels(device):
    coords = random_coords(40).to(device)
    x = SparseTensor(coords, torch.randn(len(coords), 3, device=device))
    points = coords.float()
    points[:, 1] += 0.25
    there = torch.tensor([row in coords.tolist() for row in (coords + coords_of((0, 1, 0, 0)).to(device)).tolist()])
    y = spnn.Interpolate()(x, points)
    assert torch.equal(y[~there.to(device)], 0.75 * x.feats[~there.to(device)])
    assert torch.equal(spnn.Interpolate("nearest")(x, points), x.feats)
    alone = spnn.Interpolate(renormalize=True)(x, points)[~there.to(device)]
    torch.testing.assert_close(alone, x.feats[~there.to(device)])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: spnn.GroupNorm(0, 4), ValueError, "GroupNorm: num_groups must be a whole number > 0, got 0"),
        (lambda x: spnn.GroupNorm(-2, 4), ValueError, "GroupNorm: num_groups must be a whole number > 0, got -2"),
        (lambda x: spnn.GroupNorm(2, 4.0), TypeError, "GroupNorm: num_channels must be a whole number > 0, got 4.0"),
        (lambda x: spnn.GroupNorm(3, 4), ValueError, "GroupNorm: num_groups must divide 4 channels, got 3"),
        (lambda x: spnn.InstanceNorm(0), ValueError, "InstanceNorm: num_features must be a whole number > 0, got 0"),
        (lambda x: spnn.GroupNorm(2, 4)(x), ValueError, "GroupNorm: input must have 4 channels, got 3"),
        (lambda x: spnn.InstanceNorm(3)(x.feats), TypeError, "InstanceNorm: input must be a SparseTensor"),
        (lambda x: spnn.LayerNorm(3)(x.feats), TypeError, "LayerNorm: input must be a SparseTensor"),
        (lambda x: spnn.LayerNorm(4)(x), ValueError, "LayerNorm: input must have 4 channels, got 3"),
        (lambda x: spnn.Linear(4, 2)(x), ValueError, "Linear: input must have 4 channels, got 3"),
        (lambda x: spnn.SqueezeExcite(0), ValueError, "SqueezeExcite: channels must be a whole number > 0, got 0"),
        (lambda x: spnn.SqueezeExcite(4)(x), ValueError, "SqueezeExcite: input must have 4 channels, got 3"),
        (lambda x: spnn.SqueezeExcite(3)(x.feats), TypeError, "SqueezeExcite: input must be a SparseTensor"),
        (lambda x: spnn.Interpolate()(x.feats, x.feats), TypeError, "Interpolate: input must be a SparseTensor"),
        (lambda x: spnn.Interpolate("cubic"), ValueError, "Interpolate: mode must be one of linear, nearest"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(full_grid())


def test_layers_are_copied_and_saved_as_torchs_are():
    net = torch.nn.Sequential(spnn.GroupNorm(2, 6), spnn.InstanceNorm(6, affine=True), spnn.SqueezeExcite(6, 2))
    again = copy.deepcopy(net)
    again.load_state_dict(net.state_dict())
    assert list(net.state_dict())[:4] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert repr(net[1]) == "InstanceNorm(6, eps=1e-05, affine=True)"
