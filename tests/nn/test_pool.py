# SPDX-License-Identifier: Apache-2.0
"""Sparse pooling against torch's dense layers on full grids, and against plain loops on sparse ones."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

import pcperc.nn as spnn
from pcperc import SparseTensor
from tests import oracles, oracles_pool, oracles_topology
from tests.nn.test_conv import full_grid, sparse_grid
from tests.ops.clouds import coords_of, random_coords
from tests.ops.strategies import clouds, for_every_dims, geometries

GEOMETRIES = {
    "k2": dict(kernel_size=2),
    "k3s2p1": dict(kernel_size=3, stride=2, padding=1),
    "k3s1p1": dict(kernel_size=3, stride=1, padding=1),
    "uneven": dict(kernel_size=(3, 2, 4), stride=(1, 2, 3), padding=(1, 0, 2)),
}
LAYERS = {"max": spnn.SparseMaxPool3d, "mean": spnn.SparseAvgPool3d, "sum": spnn.SparseSumPool3d}


def dense_pool(mode, grid, **geometry):
    if mode == "max":
        return F.max_pool3d(grid, **geometry)
    if mode == "mean":
        return F.avg_pool3d(grid, **geometry, count_include_pad=False)
    return F.avg_pool3d(grid, **geometry, divisor_override=1)


@pytest.mark.parametrize("mode", LAYERS)
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_pooling_a_full_grid_equals_torchs(mode, geometry, device):
    x = full_grid(device=device)
    y = LAYERS[mode](**geometry)(x)
    dense = dense_pool(mode, x.dense(), **geometry)
    torch.testing.assert_close(y.dense(), dense)
    upstream = torch.randn_like(dense)
    wanted = torch.autograd.grad(dense, x.feats, upstream)
    torch.testing.assert_close(torch.autograd.grad(y.dense(), x.feats, upstream), wanted)


@pytest.mark.parametrize("dims", [1, 2])
def test_lines_and_images_are_pooled_as_by_torch(dims):
    x = full_grid(shape=(7, 5)[:dims])
    for name, dense in (("Max", f"max_pool{dims}d"), ("Avg", f"avg_pool{dims}d")):
        layer = getattr(spnn, f"Sparse{name}Pool{dims}d")(3, 2, 1)
        options = {} if name == "Max" else {"count_include_pad": False}
        torch.testing.assert_close(layer(x).dense(), getattr(F, dense)(x.dense(), 3, 2, 1, **options))


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
def test_pooling_and_unpooling_in_every_dimension(dims):
    """Windows that do not overlap: what goes up comes down."""
    coords = random_coords(60, dims=dims, low=-3, high=3)
    x = SparseTensor(coords, torch.randn(len(coords), 3, dtype=torch.float64), 2)
    max_pool, avg_pool, sum_pool, unpool, max_unpool = (
        getattr(spnn, f"Sparse{name}{dims}d") for name in ("MaxPool", "AvgPool", "SumPool", "Unpool", "MaxUnpool")
    )
    means = unpool(2)(avg_pool(2)(x))
    sums = unpool(2)(sum_pool(2)(x))
    counts = unpool(2)(sum_pool(2)(x.replace(feats=torch.ones_like(x.feats))))
    torch.testing.assert_close(means.feats * counts.feats, sums.feats)
    pooled, rows = max_pool(2, return_indices=True)(x)
    is_maximum = unpool(2)(pooled).feats == x.feats
    assert torch.equal(max_unpool(2)(pooled, rows).feats, torch.where(is_maximum, x.feats, 0))
    assert pooled.tensor_stride == (2,) * dims
    with pytest.raises(ValueError, match=f"SparseMaxPool{dims % 4 + 1}d: input must have {dims % 4 + 1} spatial axes"):
        getattr(spnn, f"SparseMaxPool{dims % 4 + 1}d")(2)(x)


@settings(max_examples=40, deadline=None)
@given(for_every_dims(lambda dims: clouds(dims, margin=20), geometries))
def test_every_geometry_pools_what_lies_under_its_windows(case):
    coords, geometry = case
    dims = coords.shape[1] - 1
    x = SparseTensor(coords, torch.randn(len(coords), 2, dtype=torch.float64), 1023 if dims < 4 else 255)
    coarse = oracles.downsample_coords(coords, **geometry)
    table = oracles.kernel_map(coords, coarse, **geometry)
    for mode, name in (("max", "Max"), ("mean", "Avg"), ("sum", "Sum")):
        y = getattr(spnn, f"Sparse{name}Pool{dims}d")(**geometry)(x)
        assert y.coords.tolist() == coarse.tolist()
        wanted = oracles_pool.sparse_pool(x.feats.numpy(), table, mode)[0]
        torch.testing.assert_close(y.feats, torch.from_numpy(wanted))
    reverse = oracles_topology.reverse_kernel_map(table, len(coords))
    back = getattr(spnn, f"SparseUnpool{dims}d")(geometry["kernel_size"])(y)
    wanted = oracles_pool.sparse_pool(y.feats.numpy(), reverse, "mean")[0]
    torch.testing.assert_close(back.feats, torch.from_numpy(wanted))


def test_dilated_max_pool_equals_torchs(device):
    x = full_grid(device=device)
    geometry = dict(kernel_size=2, stride=1, padding=1, dilation=(1, 2, 3))
    assert torch.equal(spnn.SparseMaxPool3d(**geometry)(x).dense(), F.max_pool3d(x.dense(), **geometry))


@pytest.mark.parametrize("mode", LAYERS)
def test_absent_voxels_take_no_part(mode, device):
    x = sparse_grid(device=device)
    y = LAYERS[mode](3, 2, 1)(x)
    geometry = dict(kernel_size=(3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1), dilation=(1, 1, 1))
    coords = oracles.downsample_coords(x.coords.cpu(), **geometry, spatial_shape=x.spatial_shape)
    assert y.coords.tolist() == coords.tolist() and y.tensor_stride == (2, 2, 2)
    table = oracles.kernel_map(x.coords.cpu(), coords, **geometry)
    wanted = oracles_pool.sparse_pool(x.feats.detach().cpu().numpy(), table, mode)[0]
    torch.testing.assert_close(y.feats.detach().cpu(), torch.from_numpy(wanted))


def test_a_pooling_and_a_convolution_of_one_geometry_share_voxels_and_way_back():
    x = sparse_grid()
    pooled, convolved = spnn.SparseMaxPool3d(2)(x), spnn.SparseConv3d(3, 3, 2, 2).double()(x)
    assert pooled.topology is convolved.topology
    assert spnn.SparseInverseConv3d(3, 4, 2).double()(pooled).topology is x.topology
    assert spnn.SparseUnpool3d(2)(convolved).topology is x.topology


def test_unpooling_copies_to_the_voxels_that_were_pooled(device):
    x = full_grid(shape=(6, 4, 8), device=device)
    y = spnn.SparseUnpool3d(2)(spnn.SparseAvgPool3d(2)(x))
    wanted = F.interpolate(F.avg_pool3d(x.dense(), 2), scale_factor=2)
    assert y.topology is x.topology
    torch.testing.assert_close(y.dense(), wanted)


def test_unpooling_takes_the_mean_of_several_outputs_and_0_of_none(device):
    """Along one axis, kernel 2 and stride 1: voxel 1 feeds outputs 0 and 1. Kernel 1 and stride 2 skips voxel 1."""
    x = SparseTensor(coords_of((0, 0, 0, 0), (0, 1, 0, 0)).to(device), torch.tensor([[1.0], [5.0]], device=device))
    sums = spnn.SparseSumPool3d((2, 1, 1), stride=1)(x)  # at -1, 0, 1
    assert sums.feats.flatten().tolist() == [1.0, 6.0, 5.0]
    assert spnn.SparseUnpool3d((2, 1, 1))(sums).feats.flatten().tolist() == [3.5, 5.5]
    skipping = spnn.SparseSumPool3d(1, stride=2)(x)
    assert spnn.SparseUnpool3d(1)(skipping).feats.flatten().tolist() == [1.0, 0.0]


def test_max_unpooling_equals_torchs_where_windows_do_not_overlap(device):
    x = full_grid(shape=(6, 4, 8), device=device)
    pooled, rows = spnn.SparseMaxPool3d(2, return_indices=True)(x)
    values = SparseTensor.on_topology(pooled.topology, pooled.feats * 3 + 1, pooled.kernel_maps)
    y = spnn.SparseMaxUnpool3d(2)(values, rows)
    dense, indices = F.max_pool3d(x.dense(), 2, return_indices=True)
    wanted = F.max_unpool3d(dense * 3 + 1, indices, 2)
    assert y.topology is x.topology
    torch.testing.assert_close(y.dense(), wanted)
    upstream = torch.randn_like(wanted)
    expected = torch.autograd.grad(wanted, x.feats, upstream)
    torch.testing.assert_close(torch.autograd.grad(y.dense(), x.feats, upstream), expected)


def test_max_unpooling_adds_the_values_of_overlapping_windows():
    x = SparseTensor(coords_of((0, 0, 0, 0), (0, 1, 0, 0)), torch.tensor([[1.0], [5.0]]))
    pooled, rows = spnn.SparseMaxPool3d((2, 1, 1), stride=1, return_indices=True)(x)
    assert rows.flatten().tolist() == [0, 1, 1]
    assert spnn.SparseMaxUnpool3d((2, 1, 1))(pooled, rows).feats.flatten().tolist() == [1.0, 10.0]


@pytest.mark.parametrize("mode", ["max", "mean", "sum"])
def test_global_pooling_takes_rows_in_any_order_and_gives_0_to_empty_items(mode, device):
    coords = random_coords(60, batch_size=2)
    coords[coords[:, 0] == 1, 0] = 3
    feats = torch.randn(len(coords), 5)
    y = spnn.GlobalPool(mode)(SparseTensor(coords.to(device), feats.to(device), 5))
    wanted = oracles_pool.segment_reduce(feats.numpy(), coords[:, 0].numpy(), 5, mode)
    torch.testing.assert_close(y.cpu().double(), torch.from_numpy(wanted), rtol=1e-5, atol=1e-5)
    assert torch.equal(y[[1, 2, 4]], torch.zeros_like(y[[1, 2, 4]]))


def test_global_pooling_of_nothing():
    assert spnn.GlobalPool("mean")(SparseTensor(coords_of(), torch.zeros(0, 3), 2)).tolist() == [[0.0] * 3] * 2
    assert spnn.GlobalPool("max")(SparseTensor(coords_of(), torch.zeros(0, 3))).shape == (0, 3)


def test_empty_clouds_pass_through_every_layer(device):
    feats = torch.zeros(0, 2, device=device, requires_grad=True)
    x = SparseTensor(coords_of().to(device), feats, 2)
    y, rows = spnn.SparseMaxPool3d(2, return_indices=True)(x)
    assert rows.shape == (0, 2)
    y = spnn.SparseMaxUnpool3d(2)(y, rows)
    y = spnn.SparseUnpool3d(3)(spnn.SparseAvgPool3d(3, 2, 1)(y))
    assert y.feats.shape == (0, 2) and y.batch_size == 2
    y.feats.sum().backward()
    assert feats.grad.shape == (0, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: spnn.SparseMaxPool3d(0), ValueError, "SparseMaxPool3d: kernel_size"),
        (lambda x: spnn.SparseAvgPool3d(2, stride=2.5), TypeError, "SparseAvgPool3d: stride"),
        (lambda x: spnn.SparseMaxPool3d(2)(x.feats), TypeError, "SparseMaxPool3d: input must be a SparseTensor"),
        (lambda x: spnn.SparseSumPool3d(9)(x), ValueError, "SparseSumPool3d: spatial_shape of the input"),
        (lambda x: spnn.SparseUnpool3d(2)(x), ValueError, "SparseUnpool3d: .* exactly one convolution .* got 0"),
        (lambda x: spnn.SparseUnpool3d(2)(spnn.SparseMaxPool3d(3)(x)), ValueError, r"kernel_size \(3, 3, 3\) stride"),
        (
            lambda x: spnn.SparseMaxUnpool3d(2)(spnn.SparseMaxPool3d(2)(x), torch.zeros(1, 3).int()),
            ValueError,
            "sparse_max_unpool: rows must be",
        ),
        (lambda x: spnn.GlobalPool("min"), ValueError, "GlobalPool: mode must be one of max, mean, sum, got 'min'"),
        (lambda x: spnn.GlobalPool("max")(x.feats), TypeError, "GlobalPool: input must be a SparseTensor"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(full_grid())


def test_unpooling_refuses_where_two_maps_fit():
    x = sparse_grid()
    y = spnn.SparseMaxPool3d(2)(x)
    other = SparseTensor(x.coords.clone(), x.feats, 2, spatial_shape=x.spatial_shape, kernel_maps=x.kernel_maps)
    spnn.SparseConv3d(3, 3, 2, 2).double()(other, target=y)
    with pytest.raises(ValueError, match="exactly one convolution or pooling .* got 2"):
        spnn.SparseUnpool3d(2)(y)
