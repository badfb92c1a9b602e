# SPDX-License-Identifier: Apache-2.0
import dataclasses
import re

import numpy as np
import pytest
import torch

import pcperc.nn as spnn
from pcperc import SparseTensor, crop, ops
from tests.ops.clouds import coords_of, random_coords


def test_dense_puts_every_row_in_its_cell(device):
    coords = random_coords(60, low=0, high=4).to(device)
    x = SparseTensor(coords, torch.randn(len(coords), 3, device=device), 3, spatial_shape=(5, 6, 7))
    grid = x.dense()
    assert grid.shape == (3, 3, 5, 6, 7)
    expected = torch.zeros(3, 3, 5, 6, 7, device=device)
    for (b, i, j, k), row in zip(coords.tolist(), x.feats, strict=True):
        expected[b, :, i, j, k] = row
    assert torch.equal(grid, expected)


def test_dense_is_differentiable():
    coords = random_coords(10, low=0, high=2)
    feats = torch.randn(len(coords), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: SparseTensor(coords, f, 2, spatial_shape=(3, 3, 3)).dense(), feats)


def test_replace_keeps_voxels_and_kernel_maps():
    x = SparseTensor(coords_of((0, 1, 2, 3)), torch.ones(1, 2))
    y = x.replace(feats=torch.zeros(1, 5))
    assert y.topology is x.topology and y.kernel_maps is x.kernel_maps
    assert y.feats.shape == (1, 5) and x.feats.shape == (1, 2)


def test_a_topology_cannot_be_written_to():
    topology = SparseTensor(coords_of((0, 1, 2, 3)), torch.ones(1, 2)).topology
    for field in dataclasses.fields(topology):
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"Topology: cannot assign to '{field.name}'"):
            setattr(topology, field.name, None)
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"Topology: cannot delete '{field.name}'"):
            delattr(topology, field.name)
    same = dataclasses.replace(topology)
    assert same.coords is topology.coords and same != topology  # compared by identity


def test_a_lattice_may_be_larger_than_an_index_can_be():
    x = SparseTensor(coords_of((0, 5, 6, 7)), torch.ones(1, 2), spatial_shape=2**40)
    assert x.spatial_shape == (2**40,) * 3 and crop(x, upper=6).spatial_shape == x.spatial_shape


@pytest.mark.parametrize("column", range(4))
def test_each_column_has_its_bounds(column, device):
    coords, feats = coords_of((0, 0, 0, 0), (2, 3, 4, 5)), torch.ones(2, 1, device=device)
    assert len(SparseTensor(coords.to(device), feats, 3, spatial_shape=(4, 5, 6))) == 2
    for row, step in ((0, -1), (1, 1)):
        moved = coords.clone()
        moved[row, column] += step
        expected = re.escape(
            f"coords row {row} = {moved[row].tolist()} is outside batch_size 3, spatial_shape (4, 5, 6)"
        )
        with pytest.raises(ValueError, match=expected):
            SparseTensor(moved.to(device), feats, 3, spatial_shape=(4, 5, 6))


def test_sizes_may_be_numbers_of_numpy():
    size = np.array([8, 9, 10])
    for shape in (size, tuple(size)):
        x = SparseTensor(coords_of((1, 5, 6, 7)), torch.ones(1, 2), np.int64(2), spatial_shape=shape)
        assert x.spatial_shape == (8, 9, 10) and len(x[np.int64(1)]) == 1
        assert {type(n) for n in (*x.spatial_shape, x.batch_size)} == {int}
    layer = spnn.SparseConv3d(np.int64(2), 3, size // 4)
    assert layer.kernel_size == (2, 2, 2) and layer(x).feats.shape == (8, 3)
    with pytest.raises(TypeError, match="spatial_shape must be a whole number or 3 of them"):
        SparseTensor(coords_of((1, 5, 6, 7)), torch.ones(1, 2), spatial_shape=size / 2)


def test_batch_size_is_read_from_the_coords_where_it_is_not_given():
    assert SparseTensor(coords_of((0, 0, 0, 0), (3, 0, 0, 0)), torch.ones(2, 1)).batch_size == 4
    assert SparseTensor(coords_of(), torch.ones(0, 1)).batch_size == 0
    message = (
        r"batch_size must be in \[1, 1023\] for 2 spatial axes, got 2001 from the first column of coords, which is \["
    )
    with pytest.raises(ValueError, match=message):  # x, y, z without a batch
        SparseTensor(torch.tensor([[2000, 3, 4]], dtype=torch.int32), torch.ones(1, 1))


def test_len_counts_voxels_as_that_of_the_features_does():
    for count in (0, 1, 20):
        x = SparseTensor(random_coords(count), torch.zeros(count, 3), 4)
        assert len(x) == x.num_voxels == len(x.feats) == len(x.coords) == count
        assert len(list(x)) == x.batch_size == 4


def test_repr_says_how_many_voxels_and_on_what_lattice():
    text = repr(SparseTensor(coords_of((0, 1, 2, 3)), torch.ones(1, 2), 3, spatial_shape=(4, 5, 6), tensor_stride=2))
    for part in ("num_voxels=1", "num_channels=2", "batch_size=3", "tensor_stride=(2, 2, 2)", "(4, 5, 6)", "float32"):
        assert part in text


@pytest.mark.parametrize("shape", [(9,), (5, 6), (4, 5, 6), (3, 4, 2, 3)], ids=len)
def test_from_dense_undoes_dense(device, shape):
    grid = torch.randn(2, 3, *shape, device=device) * (torch.rand(2, 1, *shape, device=device) < 0.3)
    x = SparseTensor.from_dense(grid)
    assert torch.equal(x.dense(), grid) and x.size() == grid.shape and x.dims == len(shape)
    assert torch.equal(x.coords, ops.unique_coords(x.coords).coords)
    mask = torch.rand(2, *shape, device=device) < 0.5
    y = SparseTensor.from_dense(grid, mask=mask)
    assert len(y) == mask.sum() and torch.equal(y.dense(), grid * mask.unsqueeze(1))
    assert len(SparseTensor.from_dense(grid * 0)) == 0


def test_from_dense_is_differentiable():
    grid = torch.randn(2, 2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, 2, 3, 2) < 0.5
    assert torch.autograd.gradcheck(lambda g: SparseTensor.from_dense(g, mask=mask).feats, grid)


def test_a_cast_keeps_voxels_and_maps_and_a_move_copies_the_voxels():
    x = SparseTensor(coords_of((0, 1, 2, 3)), torch.randn(1, 2, requires_grad=True), spatial_shape=8, tensor_stride=2)
    for cast, dtype in (
        (x.half(), torch.float16),
        (x.bfloat16(), torch.bfloat16),
        (x.double(), torch.float64),
        (x.to(dtype=torch.float64), torch.float64),
        (x.to("cpu", torch.float16), torch.float16),
    ):
        assert cast.dtype == dtype and cast.topology is x.topology and cast.kernel_maps is x.kernel_maps
    assert x.float() is x and x.cpu() is x and x.to(torch.device("cpu")) is x
    x.double().feats.sum().backward()
    assert torch.equal(x.feats.grad, torch.ones(1, 2))
    moved = x.to("meta")
    assert moved.coords.is_meta and moved.feats.is_meta and moved.kernel_maps is not x.kernel_maps
    assert (moved.batch_size, moved.spatial_shape, moved.tensor_stride) == (1, (8, 8, 8), (2, 2, 2))


@pytest.mark.gpu
def test_a_tensor_goes_to_the_gpu_and_back():
    x = SparseTensor(random_coords(30), torch.randn(len(random_coords(30)), 2))
    y = x.pin_memory().to("cuda", torch.float64, non_blocking=True)
    assert y.device.type == "cuda" and y.coords.is_cuda and x.cuda(0).device.index == 0
    assert torch.equal(y.cpu().coords, x.coords) and torch.equal(y.cpu().float().feats, x.feats)


def test_a_copy_is_on_the_same_voxels():
    x = SparseTensor(random_coords(20), torch.randn(20, 6)[:, ::2].requires_grad_())
    copied = x.clone()
    assert copied.topology is x.topology and torch.equal(copied.feats, x.feats)
    assert copied.feats.data_ptr() != x.feats.data_ptr()
    (gradient,) = torch.autograd.grad(copied.feats.sum(), x.feats)
    assert torch.equal(gradient, torch.ones(20, 3))
    rows = x.contiguous()
    assert rows.feats.is_contiguous() and torch.equal(rows.feats, x.feats) and rows.topology is x.topology
    assert rows.contiguous() is rows
    assert x.requires_grad and not x.detach().requires_grad and not x.is_cuda


def test_autograd_switches():
    x = SparseTensor(coords_of((0, 1, 2, 3)), torch.ones(1, 2))
    assert x.requires_grad_() is x and x.feats.requires_grad
    assert not x.detach().feats.requires_grad and x.detach().topology is x.topology
    assert not x.requires_grad_(False).feats.requires_grad


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(2, 1)), ValueError, r"feats must be \(1, C\)"),
        (lambda: SparseTensor(torch.zeros(1, 4), torch.ones(1, 1)), ValueError, r"coords must be \(N, .*float32"),
        (lambda: SparseTensor(coords_of((2, 0, 0, 0)), torch.ones(1, 1), 2), ValueError, r"row 0 = \[2, 0, 0, 0\]"),
        (
            lambda: SparseTensor(coords_of((0, 0, 0, 0), (0, 4, 0, 0)), torch.ones(2, 1), spatial_shape=(4, 4, 4)),
            ValueError,
            r"row 1 = \[0, 4, 0, 0\] is outside",
        ),
        (lambda: SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(1, 1), 2000), ValueError, "got 2000"),
        (lambda: SparseTensor(torch.zeros(1, 5).int(), torch.ones(1, 1), 256), ValueError, r"in \[1, 255\] for 4 spat"),
        (lambda: SparseTensor(torch.zeros(1, 6).int(), torch.ones(1, 1)), ValueError, r"coords must be .*got \(1, 6\)"),
        (lambda: SparseTensor(coords_of(), torch.ones(0, 1), kernel_maps={}), TypeError, "kernel_maps .* got dict"),
        (lambda: SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(1, 1), 2.0), TypeError, "batch_size must be a whole"),
        (lambda: SparseTensor(coords_of((1999, 0, 0, 0)), torch.ones(1, 1)), ValueError, "got 2000"),
        (lambda: SparseTensor(coords_of((-1, 0, 0, 0)), torch.ones(1, 1)), ValueError, r"row 0 = \[-1, 0, 0, 0\]"),
        (lambda: SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(1, 1).numpy()), TypeError, "got ndarray"),
        (lambda: SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(1, 1)).dense(), ValueError, "needs a spatial_shape"),
        (lambda: SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(1, 1)).size(), ValueError, "needs a spatial_shape"),
        (lambda: SparseTensor(coords_of(), torch.ones(0, 1), tensor_stride=0), ValueError, "tensor_stride must be"),
        (lambda: SparseTensor(coords_of(), torch.ones(0, 1), tensor_stride=(1, 2)), ValueError, "must be a number > 0"),
        (lambda: SparseTensor(coords_of(), torch.ones(0, 1), tensor_stride=0.5), TypeError, "tensor_stride must be"),
        (lambda: SparseTensor(coords_of(), torch.ones(0, 1)).to(torch.half, torch.half), TypeError, "and dtype"),
        (lambda: SparseTensor(coords_of(), torch.ones(0, 1)).to(torch.int32), ValueError, "got .* int32"),
        (lambda: SparseTensor.from_dense(torch.ones(2, 2)), ValueError, r"grid must be \(B, C, X, ...\) floating"),
        (lambda: SparseTensor.from_dense(torch.ones(2, 2, 3, 3, 3).int()), ValueError, "got .* int32"),
        (
            lambda: SparseTensor.from_dense(torch.ones(2, 2, 3, 3, 3), mask=torch.ones(2, 3, 3, 3)),
            ValueError,
            r"mask must be \(2, 3, 3, 3\) bool, got \(2, 3, 3, 3\) float32",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
