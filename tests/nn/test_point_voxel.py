# SPDX-License-Identifier: Apache-2.0
"""Points to voxels and back against formulas in float64, with both gradients and those of the gradients."""

import numpy as np
import pytest
import torch

import pcperc.nn as spnn
from pcperc import PointTensor, SparseTensor, prune
from tests import oracles_points
from tests.op_contract import assert_twice_differentiable
from tests.sparse.test_point_tensor import random_points


def at_stride(points, stride, channels=2):
    topology = points.voxels(stride)
    feats = torch.randn(len(topology.coords), channels, dtype=points.dtype, device=points.device)
    return SparseTensor.on_topology(topology, feats, points.kernel_maps)


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_mean_of_each_voxel(dims, stride, device):
    points = random_points(dims=dims).to(device)
    target = at_stride(points, stride)
    found = spnn.point_to_voxel(points, target)
    arrays = [t.cpu().numpy() for t in (points.coords, points.feats, target.coords)]
    torch.testing.assert_close(found.feats.cpu(), torch.from_numpy(oracles_points.scatter_mean(*arrays, stride)))
    assert found.topology is target.topology and found.kernel_maps is target.kernel_maps
    if stride == 1:
        made = spnn.point_to_voxel(points)
        assert torch.equal(made.feats, found.feats) and made.kernel_maps is points.kernel_maps


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("quantized", [False, True])
def test_trilinear_among_the_voxels_that_are_there(dims, stride, quantized, device):
    points = random_points(dims=dims).to(device)
    x = at_stride(points, stride)
    found = spnn.voxel_to_point(x, points, quantized=quantized)
    arrays = [t.cpu().numpy() for t in (points.coords, x.coords, x.feats)]
    expected = oracles_points.trilinear(*arrays, stride, quantized=quantized)
    torch.testing.assert_close(found.feats.cpu(), torch.from_numpy(expected), rtol=1e-12, atol=1e-12)
    assert found.coords is points.coords


def test_nearest_is_the_voxel_of_the_point():
    points = random_points()
    x = at_stride(points, 2)
    found = spnn.voxel_to_point(x, points, "nearest")
    assert torch.equal(found.feats, x.feats[points.segments(x.topology).index.long()])


def test_a_linear_field_is_read_exactly_inside_and_the_middle_is_where_a_value_sits():
    cells = torch.cartesian_prod(*[torch.arange(-2, 3)] * 3).int()
    coords = torch.cat([torch.zeros(125, 1).int(), cells], 1)
    field = (cells.double() + 0.5) @ torch.tensor([[1.0], [-2.0], [3.0]], dtype=torch.float64)
    places = 4 * torch.rand(20, 3, dtype=torch.float64) - 1.5
    points = PointTensor(torch.cat([torch.zeros(20, 1), places], 1), places, 1)
    found = spnn.voxel_to_point(SparseTensor(coords, field, 1), points)
    torch.testing.assert_close(found.feats, places @ torch.tensor([[1.0], [-2.0], [3.0]], dtype=torch.float64))


def test_quantized_points_take_their_own_voxel_at_the_finest_spacing():
    points = random_points()
    x = at_stride(points, 1)
    nearest = spnn.voxel_to_point(x, points, "nearest").feats
    torch.testing.assert_close(spnn.voxel_to_point(x, points, quantized=True).feats, nearest, rtol=0, atol=0)
    assert not torch.equal(spnn.voxel_to_point(x, points).feats, nearest)


def test_points_whose_voxel_is_gone_are_left_out_and_read_what_is_left():
    points = random_points()
    x = at_stride(points, 1)
    spnn.voxel_to_point(x, points)  # what is kept of all the voxels is not taken for the rest
    keep = torch.rand(len(x)) < 0.5
    rest = prune(x, keep)
    arrays = [t.numpy() for t in (points.coords, points.feats, rest.coords)]
    expected = oracles_points.scatter_mean(*arrays)
    torch.testing.assert_close(spnn.point_to_voxel(points, rest).feats, torch.from_numpy(expected))
    expected = oracles_points.trilinear(arrays[0], arrays[2], rest.feats.numpy())
    torch.testing.assert_close(spnn.voxel_to_point(rest, points).feats, torch.from_numpy(expected))
    own = keep[points.segments(x.topology).index.long()]
    assert (spnn.voxel_to_point(rest, points, "nearest").feats[~own] == 0).all()


@pytest.mark.parametrize("mode", ["trilinear", "nearest"])
def test_gradients_and_their_gradients(mode):
    points = random_points(12, low=-2, high=2)
    x = at_stride(points, 2)
    voxel_feats, feats = x.feats.clone().requires_grad_(), points.feats.clone().requires_grad_()

    def read(feats):
        return spnn.voxel_to_point(x.replace(feats=feats), points, mode).feats

    def write(feats):
        return spnn.point_to_voxel(points.replace(feats=feats), x).feats

    for function, argument in ((read, voxel_feats), (write, feats)):
        assert torch.autograd.gradcheck(function, argument)
        assert_twice_differentiable(lambda f, function=function: function(f) ** 2, argument)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_sums_in_float32(dtype, device):
    points = random_points(400, low=-2, high=2, dtype=torch.float32).to(device)
    low, x = points.to(dtype), at_stride(points, 2)
    wide = spnn.point_to_voxel(low.float(), x).feats
    assert torch.equal(spnn.point_to_voxel(low, x).feats, wide.to(dtype))
    read = spnn.voxel_to_point(x.to(dtype).float(), points).feats
    assert torch.equal(spnn.voxel_to_point(x.to(dtype), points).feats, read.to(dtype))


def test_order_of_points_does_not_matter_and_results_repeat():
    points = random_points(80, low=-2, high=2)
    order = torch.randperm(80)
    shuffled = PointTensor(points.coords[order], points.feats[order], 2)
    first, second = spnn.point_to_voxel(points), spnn.point_to_voxel(shuffled)
    assert torch.equal(first.coords, second.coords)
    torch.testing.assert_close(first.feats, second.feats)
    torch.testing.assert_close(
        spnn.voxel_to_point(first, points).feats[order], spnn.voxel_to_point(first, shuffled).feats
    )


@pytest.mark.parametrize("count", [0, 1])
def test_few_points(count):
    points = random_points(count)
    x = spnn.point_to_voxel(points)
    assert x.feats.shape == (count, 3)
    assert torch.equal(spnn.voxel_to_point(x, points).feats, points.feats)


def test_layers_to_which_rows_are_all_that_counts_take_points():
    points = random_points(dtype=torch.float32)
    layers = (
        spnn.Linear(3, 5),
        spnn.BatchNorm(5),
        spnn.SyncBatchNorm(5),
        spnn.LayerNorm(5),
        spnn.ReLU(),
        spnn.PReLU(5),
    )
    found, feats = torch.nn.Sequential(*layers)(points), points.feats
    plain = torch.nn.Sequential(
        torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.BatchNorm1d(5), torch.nn.LayerNorm(5)
    )
    plain.append(torch.nn.ReLU()).append(torch.nn.PReLU(5))
    plain.load_state_dict(torch.nn.Sequential(*layers).state_dict(), strict=False)
    torch.testing.assert_close(found.feats, plain(feats))
    assert isinstance(found, PointTensor) and found.coords is points.coords
    for layer in layers[:4]:
        with pytest.raises(ValueError, match=f"{type(layer).__name__}: input must .*"):
            layer(points.replace(feats=torch.zeros(60, 7)))
    assert spnn.BatchNorm(3)(random_points(1, dtype=torch.float32)).feats.shape == (1, 3)
    with pytest.raises(TypeError, match="SubMConv3d: input must be a SparseTensor, got PointTensor"):
        spnn.SubMConv3d(3, 3, 3)(points)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p, x: spnn.point_to_voxel(x), TypeError, "point_to_voxel: points must be a PointTensor, got Sparse"),
        (lambda p, x: spnn.point_to_voxel(p, p), TypeError, "point_to_voxel: target must be a SparseTensor, got Point"),
        (lambda p, x: spnn.voxel_to_point(p, x), TypeError, "voxel_to_point: x must be a SparseTensor, got Point"),
        (lambda p, x: spnn.voxel_to_point(x, x), TypeError, "voxel_to_point: points must be a PointTensor"),
        (lambda p, x: spnn.voxel_to_point(x, p, "cubic"), ValueError, "mode must be one of trilinear, nearest"),
        (
            lambda p, x: spnn.voxel_to_point(spnn.SparseConvTranspose3d(2, 2, 2, 2).double()(x), p),
            ValueError,
            "must have a tensor_stride of whole numbers, got .*Fraction",
        ),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    points = random_points()
    with pytest.raises(error, match=message):
        call(points, at_stride(points, 1))


def test_compiles_with_points_made_inside_and_outside():
    def program(coords, feats):
        points = PointTensor(coords, feats, 2)
        return spnn.voxel_to_point(spnn.point_to_voxel(points), points).feats

    compiled = torch.compile(program, backend="eager", fullgraph=True, dynamic=True)
    for count in (30, 50):
        points = random_points(count)
        torch.testing.assert_close(compiled(points.coords, points.feats), program(points.coords, points.feats))
    outside = torch.compile(lambda p: spnn.voxel_to_point(spnn.point_to_voxel(p), p).feats, backend="eager")
    torch.testing.assert_close(outside(points), program(points.coords, points.feats))
    with pytest.raises(Exception, match="coords must be finite"):
        compiled(points.coords * np.nan, points.feats)
