# SPDX-License-Identifier: Apache-2.0
"""Sparse layers against torch's dense ones on full grids, and against masked dense ones on sparse ones."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import pcperc.nn as spnn
from pcperc import SparseTensor, ops
from pcperc.sparse.kernel_map import _ORDERED_ROWS
from tests.ops.clouds import coords_of, random_coords

SHAPE = (6, 5, 7)


def full_grid(batch_size=2, shape=SHAPE, channels=3, dtype=torch.float64, device="cpu"):
    axes = [torch.arange(n, dtype=torch.int32) for n in (batch_size, *shape)]
    coords = torch.cartesian_prod(*axes).to(device)
    feats = torch.randn(len(coords), channels, dtype=dtype, device=device, requires_grad=True)
    return SparseTensor(coords, feats, batch_size, spatial_shape=shape)


def sparse_grid(**options):
    full = full_grid(**options)
    kept = torch.rand(len(full)).to(full.device) < 0.3
    feats = full.feats.detach()[kept].requires_grad_()
    return SparseTensor(full.coords[kept], feats, full.batch_size, spatial_shape=full.spatial_shape)


def dense_weight(layer):
    return layer.weight.permute(4, 3, 0, 1, 2)


def on_lattice_of(tensor, coords):
    """A tensor on other voxels of the same lattice, as a user would give it for a target."""
    topology = replace(tensor.topology, coords=coords)
    return SparseTensor.on_topology(topology, coords.new_zeros(len(coords), 1).double(), tensor.kernel_maps)


GEOMETRIES = {
    "k3s1p1": dict(kernel_size=3, padding=1),
    "k3s2p1": dict(kernel_size=3, stride=2, padding=1),
    "k2s2": dict(kernel_size=2, stride=2),
    "k3s2_last_axis": dict(kernel_size=(1, 1, 3), stride=(1, 1, 2)),
    "second_encoder": dict(kernel_size=3, stride=2, padding=(1, 1, 0)),
    "dilated": dict(kernel_size=2, stride=1, padding=1, dilation=(1, 2, 3)),
    "even_kernel": dict(kernel_size=(4, 2, 2), stride=(3, 1, 2), padding=(1, 0, 1)),
}


@pytest.mark.parametrize("make", [full_grid, sparse_grid])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_sparse_conv_equals_dense_conv_where_it_has_voxels(make, geometry, device):
    x = make(device=device)
    layer = spnn.SparseConv3d(3, 4, **geometry).double().to(x.device)
    y = layer(x)
    dense = F.conv3d(
        x.dense(), dense_weight(layer), layer.bias, **{k: v for k, v in geometry.items() if k != "kernel_size"}
    )
    assert y.spatial_shape == tuple(dense.shape[2:])
    b, i, j, k = y.coords.long().unbind(1)
    torch.testing.assert_close(y.feats, dense[b, :, i, j, k])
    if make is full_grid:
        torch.testing.assert_close(y.dense(), dense)
    upstream = torch.randn_like(y.feats)
    wanted = torch.autograd.grad(dense[b, :, i, j, k], [x.feats, layer.weight, layer.bias], upstream, retain_graph=True)
    for got, expected in zip(
        torch.autograd.grad(y.feats, [x.feats, layer.weight, layer.bias], upstream), wanted, strict=True
    ):
        torch.testing.assert_close(got, expected)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (5, 1), ((1, 3, 5), 1), (3, 2), (2, 2), ((2, 4, 1), 1)])
def test_submanifold_conv_equals_dense_conv_on_its_voxels(kernel, dilation, device):
    x = sparse_grid(device=device)
    layer = spnn.SubMConv3d(3, 2, kernel, dilation=dilation).double().to(device)
    y = layer(x)
    assert y.topology is x.topology
    dense = F.conv3d(x.dense(), dense_weight(layer), layer.bias, padding="same", dilation=dilation)
    b, i, j, k = x.coords.long().unbind(1)
    torch.testing.assert_close(y.feats, dense[b, :, i, j, k])


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_conv_to_given_voxels_keeps_their_order(geometry, device):
    x = sparse_grid(device=device)
    layer = spnn.SparseConv3d(3, 4, **geometry).double().to(device)
    everything = layer(x)
    chosen = torch.randperm(len(everything))[: len(everything) // 2].to(device)
    target = on_lattice_of(everything, everything.coords[chosen])
    y = layer(x, target=target)
    assert y.topology is target.topology
    torch.testing.assert_close(y.feats, everything.feats[chosen])


def test_a_target_voxel_that_no_input_reaches_gets_the_bias():
    x = SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(1, 2))
    layer = spnn.SparseConv3d(2, 3, 3)
    y = layer(x, target=SparseTensor(coords_of((0, 9, 9, 9)), torch.ones(1, 1)))
    assert torch.equal(y.feats, layer.bias[None])


def test_a_network_builds_each_kernel_map_once(monkeypatch):
    built = []
    build = ops.build_kernel_map
    monkeypatch.setattr(ops, "build_kernel_map", lambda *a, **k: built.append(k["kernel_size"]) or build(*a, **k))
    block = [spnn.SubMConv3d(4, 4, 3), spnn.BatchNorm(4), spnn.ReLU()]
    net = torch.nn.Sequential(
        *block, *block, spnn.SparseConv3d(4, 4, 2, 2), *block, *block, spnn.SparseInverseConv3d(4, 4, 2), *block
    )
    coords = random_coords(80)
    net(SparseTensor(coords, torch.randn(len(coords), 4))).feats.sum().backward()
    assert built == [(3, 3, 3), (2, 2, 2), (3, 3, 3)]


def test_maps_that_inference_made_are_there_for_training():
    coords = random_coords(80)
    down, up = spnn.SparseConv3d(4, 4, 2, 2), spnn.SparseInverseConv3d(4, 4, 2)
    net = torch.nn.Sequential(spnn.SubMConv3d(4, 4, 3), down, spnn.SparseMaxPool3d(2), spnn.SparseUnpool3d(2), up)
    net.append(spnn.InstanceNorm(4))
    x = SparseTensor(coords, torch.randn(len(coords), 4))
    with torch.inference_mode():
        expected = net(x).feats
    count = len(x.kernel_maps)
    y = net(x).feats
    y.square().sum().backward()
    assert len(x.kernel_maps) == count and torch.equal(y, expected)
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.gpu
def test_row_orders_that_inference_made_are_there_for_training(monkeypatch):
    made, order_rows = [], ops.order_rows

    def order(rows):
        made.extend(found := order_rows(rows))
        return found

    monkeypatch.setattr(ops, "order_rows", order)
    down, up = spnn.SparseConv3d(4, 4, 3, 2, 1), spnn.SparseInverseConv3d(4, 4, 3)
    net = torch.nn.Sequential(spnn.SubMConv3d(4, 4, 3), down, up).cuda()
    coords = random_coords(40_000, low=-20, high=20).cuda()
    x = SparseTensor(coords, torch.randn(len(coords), 4, device="cuda"))
    with torch.inference_mode():
        expected = net(x).feats
    count = len(made)
    assert count >= 4 and len(down(x)) > _ORDERED_ROWS  # a table and an order for voxels of either level
    y = net(x).feats
    torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert not any(tensor.is_inference() for tensor in made)


def test_full_size_lattice_of_bevfusion_keeps_its_bounds():
    x = SparseTensor(coords_of((0, 1439, 1439, 40), (0, 0, 0, 0)), torch.ones(2, 1), 1, spatial_shape=(1440, 1440, 41))
    for _ in range(2):
        x = spnn.SparseConv3d(1, 1, 3, 2, 1)(x)
    x = spnn.SparseConv3d(1, 1, 3, 2, (1, 1, 0))(x)
    x = spnn.SparseConv3d(1, 1, (1, 1, 3), (1, 1, 2))(x)
    assert x.spatial_shape == (180, 180, 2)
    assert x.tensor_stride == (8, 8, 16)


def test_permuted_rows_give_permuted_results():
    coords = random_coords(70)
    feats, order = torch.randn(len(coords), 3, dtype=torch.float64), torch.randperm(len(coords))
    layer = spnn.SubMConv3d(3, 5, 3).double()
    plain, permuted = layer(SparseTensor(coords, feats)), layer(SparseTensor(coords[order], feats[order]))
    torch.testing.assert_close(permuted.feats, plain.feats[order])


def test_empty_clouds_pass_through_every_layer(device):
    net = torch.nn.Sequential(
        spnn.SubMConv3d(2, 4, 3),
        spnn.BatchNorm(4),
        spnn.ReLU(),
        spnn.SparseConv3d(4, 4, 3, 2, 1),
        spnn.SparseInverseConv3d(4, 2, 3),
    ).to(device)
    feats = torch.zeros(0, 2, device=device, requires_grad=True)
    y = net(SparseTensor(coords_of().to(device), feats, 2))
    assert y.feats.shape == (0, 2) and y.batch_size == 2
    y.feats.sum().backward()
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in net.parameters() if p.grad is not None)


def down(*geometry):
    return spnn.SparseConv3d(3, 4, *geometry)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: spnn.SubMConv3d(3, 0, 3), ValueError, "SubMConv3d: out_channels must be a whole number > 0, got 0"),
        (lambda x: spnn.SubMConv3d(3.0, 4, 3), TypeError, "in_channels must be a whole number > 0, got 3.0"),
        (lambda x: spnn.SubMConv3d(3, 4, 3, groups=2), ValueError, "groups must divide 3 and 4 channels, got 2"),
        (lambda x: spnn.SubMConv3d(3, 4, (3, 3)), ValueError, r"SubMConv3d: kernel_size must be .* got \(3, 3\)"),
        (lambda x: spnn.SparseConv3d(3, 4, 3, stride=0), ValueError, "SparseConv3d: stride"),
        (lambda x: spnn.SubMConv3d(5, 4, 3)(x), ValueError, "input must have 5 channels, got 3"),
        (lambda x: spnn.SubMConv3d(3, 4, 3)(x.feats), TypeError, "input must be a SparseTensor, got Tensor"),
        (lambda x: spnn.SubMConv2d(3, 4, 3)(x), ValueError, "SubMConv2d: input must have 2 spatial axes, got 3"),
        (lambda x: down(9)(x), ValueError, r"SparseConv3d: .* must leave an output of size >= 1, got \(6, 5, 7\)"),
        (lambda x: down(2)(x, target=x.feats), TypeError, "target must be a SparseTensor, got Tensor"),
        (lambda x: down(2, 2)(x, target=x), ValueError, r"tensor_stride \(2, 2, 2\), got \(1, 1, 1\)"),
        (lambda x: down(2)(x, target=full_grid(3)), ValueError, "target must have batch_size 2, got 3"),
        (lambda x: down(2)(x, target=x), ValueError, r"spatial_shape \(5, 4, 6\), got \(6, 5, 7\)"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(full_grid())


def test_repeated_coords_are_refused_by_the_first_convolution():
    x = SparseTensor(coords_of((0, 1, 1, 1), (0, 1, 1, 1)), torch.ones(2, 1))
    with pytest.raises(ValueError, match="row 1"):
        spnn.SubMConv3d(1, 1, 3)(x)
