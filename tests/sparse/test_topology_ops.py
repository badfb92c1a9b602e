# SPDX-License-Identifier: Apache-2.0
"""cat, union, prune and crop against the same on dense grids, and the way back along their kernel maps."""

import pytest
import torch

import pcperc.nn as spnn
from pcperc import SparseTensor, cat, collate, crop, load, ops, prune, save, union
from tests.op_contract import assert_twice_differentiable
from tests.ops.clouds import coords_of, random_coords

SHAPE = (5, 6, 4)


def cloud(seed=0, channels=2, count=40, device="cpu"):
    coords = random_coords(count, low=0, high=3, seed=seed).to(device)
    feats = torch.randn(len(coords), channels, dtype=torch.float64, device=device)
    return SparseTensor(coords, feats, 2, spatial_shape=SHAPE)


def is_sorted(x):
    return torch.equal(x.coords, ops.unique_coords(x.coords).coords)


def test_cat_puts_channels_side_by_side(device):
    x = cloud(device=device)
    y, apart = x.replace(feats=torch.randn_like(x.feats)), cloud(channels=3, device=device)
    z = cat([x, y, apart])
    assert z.topology is x.topology and z.kernel_maps is x.kernel_maps
    assert torch.equal(z.feats, torch.cat([x.feats, y.feats, apart.feats], 1))


def test_union_is_the_sum_of_dense_grids(device):
    parts = [cloud(seed, device=device) for seed in range(3)]
    z = union(parts)
    torch.testing.assert_close(z.dense(), sum(x.dense() for x in parts))
    assert is_sorted(z) and len(z) == len(torch.unique(torch.cat([x.coords for x in parts]), dim=0))
    assert z.kernel_maps is parts[0].kernel_maps


def test_union_on_one_topology_keeps_it():
    x = cloud()
    z = union([x, x * 2])
    assert z.topology is x.topology and torch.equal(z.feats, x.feats + 2 * x.feats)


def test_union_on_one_topology_is_rounded_once():
    x = cloud().half()
    parts = [x.replace(feats=torch.full_like(x.feats, value)) for value in (2048.0, 1.0, 1.0)]
    assert (union(parts).feats == 2050).all()  # 2048 + 1 is 2048 in float16


def test_layers_find_the_maps_of_a_union():
    x = cloud()
    parts = [prune(x, x.feats[:, 0] > 0), prune(x, x.feats[:, 1] > 0)]
    total = union(parts)
    count = len(x.kernel_maps)
    layer = spnn.SparseConv3d(2, 3, 1, bias=False).double()
    for part in parts:
        dense = torch.nn.functional.conv3d(part.dense(), layer.weight.permute(4, 3, 0, 1, 2))
        there = layer(part, target=total)
        assert there.topology is total.topology
        torch.testing.assert_close(there.dense(), dense)
    assert len(x.kernel_maps) == count
    with pytest.raises(ValueError, match="exactly one convolution .* got 2"):  # two ways back
        spnn.SparseInverseConv3d(2, 2, 1).double()(total)


def test_union_with_nothing():
    x, empty = cloud(), SparseTensor(coords_of(), torch.zeros(0, 2, dtype=torch.float64), 2, spatial_shape=SHAPE)
    assert torch.equal(union([empty, x]).dense(), x.dense())
    assert len(union([empty, SparseTensor(coords_of(), empty.feats, 2, spatial_shape=SHAPE)])) == 0


def test_union_carries_what_is_not_finite_only_to_its_voxel():
    x = SparseTensor(coords_of((0, 0, 0, 0)), torch.tensor([[float("inf")]]))
    y = SparseTensor(coords_of((0, 0, 0, 1)), torch.tensor([[1.0]]))
    assert union([x, y]).feats.tolist() == [[float("inf")], [1.0]]


def test_prune_keeps_rows_in_order(device):
    x = cloud(device=device)
    mask = torch.rand(len(x), device=device) < 0.5
    y = prune(x, mask)
    assert torch.equal(y.coords, x.coords[mask]) and torch.equal(y.feats, x.feats[mask])
    assert (y.batch_size, y.spatial_shape, y.tensor_stride) == (2, SHAPE, (1, 1, 1))
    assert len(prune(x, torch.zeros_like(mask))) == 0
    assert prune(x, torch.ones_like(mask)).topology is not x.topology


def test_crop_keeps_the_voxels_of_the_box(device):
    x = cloud(device=device)
    y = crop(x, (1, 0, 2), (4, 3, 4))
    expected = torch.zeros_like(x.dense())
    expected[:, :, 1:4, 0:3, 2:4] = x.dense()[:, :, 1:4, 0:3, 2:4]
    assert torch.equal(y.dense(), expected)
    assert len(crop(x)) == len(x) and len(crop(x, lower=100)) == 0 == len(crop(x, upper=0))
    line = SparseTensor(coords_of((0, -3, 0, 0), (0, -2, 0, 0), (0, -1, 0, 0)), torch.ones(3, 1))
    assert crop(line, lower=-2).coords[:, 1].tolist() == [-2, -1]


@pytest.mark.parametrize("shape", [(9,), (5, 6), (3, 4, 2, 3)], ids=len)
def test_every_number_of_axes(shape, tmp_path):
    grids = [torch.randn(2, 3, *shape) * (torch.rand(2, 1, *shape) < 0.4) for _ in range(2)]
    x, y = (SparseTensor.from_dense(grid) for grid in grids)
    torch.testing.assert_close(union([x, y]).dense(), grids[0] + grids[1])
    assert torch.equal(collate([x[1], y[0]]).dense(), torch.stack([grids[0][1], grids[1][0]]))
    assert torch.equal(prune(x, x.feats[:, 0] > 0).dense(), grids[0] * (grids[0][:, :1] > 0))
    inside = torch.zeros(2, 1, *shape)
    inside[(..., *(slice(1, size - 1) for size in shape))] = 1
    assert torch.equal(crop(x, 1, [size - 1 for size in shape]).dense(), grids[0] * inside)
    save(x, tmp_path / "x.safetensors")
    assert torch.equal(load(tmp_path / "x.safetensors").dense(), grids[0])


def test_an_inverse_convolution_leads_back_from_pruned_voxels(device):
    x = cloud(device=device)
    mask = torch.rand(len(x), device=device) < 0.5
    back = spnn.SparseInverseConv3d(2, 2, 1, bias=False).double().to(device)
    y = back(spnn.SubMConv3d(2, 2, 3).double().to(device)(prune(x, mask)))
    assert y.topology is x.topology
    assert torch.equal(y.feats.abs().sum(1) > 0, mask)


def test_submanifold_layers_after_prune_see_the_kept_voxels_alone():
    x = cloud()
    layer = spnn.SubMConv3d(2, 3, 3).double()
    layer(x)
    kept = prune(x, torch.rand(len(x)) < 0.5)
    fresh = SparseTensor(kept.coords, kept.feats, 2, spatial_shape=SHAPE)
    assert torch.equal(layer(kept).feats, layer(fresh).feats)


def test_joining_and_choosing_are_differentiable():
    x, y = cloud(0, count=10), cloud(1, count=10)
    mask = torch.rand(len(x)) < 0.5
    inputs = [x.feats.clone().requires_grad_(), y.feats.clone().requires_grad_()]

    def results(a, b):
        a, b = x.replace(feats=a), y.replace(feats=b)
        return union([a, b]).feats, cat([a, a * 2]).feats, prune(a, mask).feats, crop(b, 1, 3).feats

    assert torch.autograd.gradcheck(results, inputs)
    assert_twice_differentiable(results, inputs)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: cat([]), ValueError, "cat: at least one SparseTensor must be given, got none"),
        (lambda x: cat(x), TypeError, "cat: tensors must be a list or tuple of SparseTensors, got SparseTensor"),
        (lambda x: union(iter([x])), TypeError, "union: tensors must be a list or tuple .*, got list_iterator"),
        (lambda x: cat([x, cloud(1)]), ValueError, "cat: both must have the same voxels .*; pcperc.union"),
        (lambda x: union([x, None]), TypeError, "union: argument must be a SparseTensor, got NoneType"),
        (lambda x: union([x, cloud(1, channels=3)]), ValueError, "union: all tensors must have the channels and dtype"),
        (lambda x: union([x, cloud(1)[0]]), ValueError, "union: all .* same lattice, got batch_size 2 and 1"),
        (
            lambda x: union([x, SparseTensor(cloud(1).coords, cloud(1).feats, 2)]),
            ValueError,
            r"spatial_shape \(5, 6, 4\) and None",
        ),
        (
            lambda x: union([x, SparseTensor(x.coords[[0, 0]], x.feats[:2], 2, spatial_shape=SHAPE)]),
            ValueError,
            "union: each tensor must have distinct rows, got one twice",
        ),
        (lambda x: union([x, SparseTensor(x.coords[:, :3], x.feats, 2)]), ValueError, "got 3 and 2 spatial axes"),
        (lambda x: prune(x, torch.ones(len(x))), ValueError, r"prune: mask must be \(\d+,\) bool, got .* float32"),
        (lambda x: prune(x, torch.ones(3, dtype=torch.bool)), ValueError, r"got \(3,\) bool"),
        (lambda x: prune(x, [True]), TypeError, "prune: mask must be a tensor, got list"),
        (lambda x: prune(x.feats, x.feats), TypeError, "prune: argument must be a SparseTensor, got Tensor"),
        (lambda x: crop(x, (0, 0)), ValueError, "crop: lower must be"),
        (lambda x: crop(x, upper=1.5), TypeError, "crop: upper must be"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(cloud())


def test_compiles_without_a_graph_break():
    x = cloud()

    def compute(x):
        y = x.replace(feats=x.feats.relu())
        z = (x + y) * 0.5 - 3 / (y + 1) + (-x)
        kept = prune(cat([x, z]), x.feats[:, 0] > 0)
        return union([kept, cat([x, x])]).feats, z.float().feats

    compiled = torch.compile(compute, fullgraph=True, backend="aot_eager")
    for got, expected in zip(compiled(x), compute(x), strict=True):
        assert torch.equal(got, expected)
