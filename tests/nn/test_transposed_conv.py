# SPDX-License-Identifier: Apache-2.0
"""Layers from coarse to fine voxels against torch.nn.ConvTranspose3d, on full grids and on sparse ones."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F

import pcperc.nn as spnn
from pcperc import SparseTensor
from tests.nn.test_conv import SHAPE, full_grid, on_lattice_of, sparse_grid
from tests.ops.clouds import coords_of, random_coords

GEOMETRIES = {
    "k2s2": dict(kernel_size=2, stride=2),
    "k3s2p1": dict(kernel_size=3, stride=2, padding=1),
    "k3s1p1": dict(kernel_size=3, padding=1),
    "k4s2p1": dict(kernel_size=4, stride=2, padding=1),
    "per_axis": dict(kernel_size=(3, 2, 1), stride=(2, 1, 3), padding=(1, 0, 0), dilation=(1, 2, 1)),
    "gaps": dict(kernel_size=1, stride=2),
}


def dense_transposed(layer, x, **options):
    """torch's result on the dense grid of x; its options and the layer's own."""
    options = dict(stride=layer.stride, padding=layer.padding, dilation=layer.dilation) | options
    return F.conv_transpose3d(x.dense(), layer.weight.permute(3, 4, 0, 1, 2), layer.bias, **options)


def to_device(layer, device):
    return layer.double().to(device)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_transposed_conv_to_given_voxels_equals_dense_with_both_gradients(geometry, device):
    x = sparse_grid(device=device)
    layer = to_device(spnn.SparseConvTranspose3d(3, 4, **geometry), device)
    dense = dense_transposed(layer, x)
    fine = full_grid(shape=dense.shape[2:], device=device)
    chosen = torch.randperm(len(fine))[: len(fine) // 2].to(device)
    spacing = tuple(Fraction(1, s) for s in layer.stride)
    topology = replace(fine.topology, coords=fine.coords[chosen], tensor_stride=spacing)
    y = layer(x, target=SparseTensor.on_topology(topology, fine.feats[chosen], fine.kernel_maps))
    assert y.topology is topology
    b, i, j, k = topology.coords.long().unbind(1)
    torch.testing.assert_close(y.feats, dense[b, :, i, j, k])
    leaves, upstream = [x.feats, layer.weight, layer.bias], torch.randn_like(y.feats)
    wanted = torch.autograd.grad(dense[b, :, i, j, k], leaves, upstream)
    for got, expected in zip(torch.autograd.grad(y.feats, leaves, upstream), wanted, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("geometry", [dict(kernel_size=2, stride=2), dict(kernel_size=3, stride=2, padding=1)])
def test_inverse_conv_equals_transposed_conv_and_returns_to_the_old_voxels(geometry, device):
    x = full_grid(device=device)
    middle = to_device(spnn.SparseConv3d(3, 4, **geometry), device)(x)
    up = to_device(spnn.SparseInverseConv3d(4, 2, geometry["kernel_size"]), device)
    y = up(middle)
    assert y.topology is x.topology
    options = {k: v for k, v in geometry.items() if k != "kernel_size"}
    bare = dense_transposed(up, middle, **options)
    missing = [n - m for n, m in zip(SHAPE, bare.shape[2:], strict=True)]
    torch.testing.assert_close(y.dense(), dense_transposed(up, middle, **options, output_padding=missing))


def test_transposed_conv_to_the_skip_connection_is_the_inverse_conv():
    x = SparseTensor(random_coords(80), torch.randn(len(random_coords(80)), 3))
    middle = spnn.SparseConv3d(3, 4, 2, 2)(x)
    inverse, up = spnn.SparseInverseConv3d(4, 5, 2), spnn.SparseConvTranspose3d(4, 5, 2, 2)
    up.load_state_dict(inverse.state_dict())
    y = up(middle, target=x)
    assert torch.equal(y.feats, inverse(middle).feats)
    assert len(x.kernel_maps) == 1  # both go back along the map of the convolution


def test_inverse_conv_takes_no_transposed_layer_for_the_maker():
    coarse = SparseTensor(coords_of((0, 0, 0, 0), (0, 1, 0, 0)), torch.ones(2, 1))
    fine = on_lattice_of(coarse, coords_of((0, 0, 0, 0), (0, 2, 1, 0)))
    fine = SparseTensor.on_topology(
        replace(fine.topology, tensor_stride=(Fraction(1, 2),) * 3), fine.feats.float(), coarse.kernel_maps
    )
    y = spnn.SparseConvTranspose3d(1, 1, 2, 2)(coarse, target=fine)
    for tensor in (coarse, y):
        with pytest.raises(ValueError, match="SparseInverseConv3d: input must have .* got 0 .*made them: none"):
            spnn.SparseInverseConv3d(1, 1, 2)(tensor)


def test_inverse_conv_says_which_layers_made_its_input():
    middle = spnn.SparseConv3d(1, 1, 2, 2)(SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(1, 1)))
    with pytest.raises(ValueError, match=r"kernel_size \(3, 3, 3\) made, got 0 .*kernel_size \(2, 2, 2\) stride"):
        spnn.SparseInverseConv3d(1, 1, 3)(middle)


def test_inverse_conv_refuses_where_two_maps_fit():
    coords = coords_of((0, 0, 0, 0), (0, 1, 0, 0))
    x = SparseTensor(coords, torch.ones(2, 1))
    conv = spnn.SparseConv3d(1, 1, 2, 2)
    middle = conv(x)
    conv(SparseTensor(coords, torch.ones(2, 1), kernel_maps=x.kernel_maps), target=middle)
    with pytest.raises(ValueError, match="exactly one convolution .* got 2"):
        spnn.SparseInverseConv3d(1, 1, 2)(middle)


def test_spacing_becomes_a_fraction_and_whole_again():
    x = SparseTensor(coords_of((0, 3, 0, 1)), torch.ones(1, 1))
    up, down = spnn.SparseConvTranspose3d(1, 1, 1, stride=(2, 1, 3)), spnn.SparseConv3d(1, 1, 1, stride=(4, 1, 3))
    y = up(x)
    assert y.tensor_stride == (Fraction(1, 2), 1, Fraction(1, 3)) and y.coords.tolist() == [[0, 6, 0, 3]]
    z = down(SparseTensor(y.coords, y.feats, kernel_maps=y.kernel_maps))
    assert z.tensor_stride == (4, 1, 3) and len(z) == 0  # 6 is no multiple of 4
    z = spnn.SparseConv3d(1, 1, 1, stride=(2, 1, 3))(y)
    assert z.tensor_stride == (1, 1, 1) and all(isinstance(s, int) for s in z.tensor_stride)
    assert z.coords.tolist() == [[0, 3, 0, 1]]


def test_generative_conv_makes_every_voxel_under_a_centred_kernel():
    x = SparseTensor(coords_of((0, 2, -1, 0)), torch.ones(1, 1))
    layer = spnn.SparseGenerativeConvTranspose3d(1, 1, (3, 2, 1), stride=2, dilation=(2, 1, 1), bias=False)
    y = layer(x)
    # x: an odd kernel reaches 2 * 2 - 2 ... 2 * 2 + 2 in steps of 2; y: an even one 2 * -1 and the voxel after it
    assert y.coords.tolist() == [[0, i, j, 0] for i in (2, 4, 6) for j in (-2, -1)]
    assert torch.equal(y.feats.flatten(), layer.weight.flatten())


def test_generative_conv_on_a_bounded_lattice_stays_inside():
    x = SparseTensor(coords_of((0, 0, 1, 1)), torch.ones(1, 1), spatial_shape=(2, 2, 3))
    y = spnn.SparseGenerativeConvTranspose3d(1, 1, 3, stride=2)(x)
    assert y.spatial_shape == (4, 4, 6)
    assert y.coords[:, 1:].amin(0).tolist() == [0, 1, 1] and y.coords[:, 1:].amax(0).tolist() == [1, 3, 3]


def test_layers_with_one_geometry_share_new_voxels_and_their_map():
    x = SparseTensor(random_coords(40), torch.randn(len(random_coords(40)), 2))
    layers = [spnn.SparseConvTranspose3d(2, 2, 2, 2), spnn.SparseConvTranspose3d(2, 2, 2, 2)]
    layers += [spnn.SparseGenerativeConvTranspose3d(2, 2, 2, 2)]
    first, *others = [layer(x) for layer in layers]
    assert all(other.topology is first.topology for other in others) and len(x.kernel_maps) == 1


def test_empty_clouds_pass_through_every_layer(device):
    net = torch.nn.Sequential(
        spnn.SparseConv3d(2, 4, 2, 2),
        spnn.SparseInverseConv3d(4, 4, 2),
        spnn.SparseConvTranspose3d(4, 4, 3, 2),
        spnn.SparseGenerativeConvTranspose3d(4, 3, 3, 2),
    ).to(device)
    y = net(SparseTensor(coords_of().to(device), torch.zeros(0, 2, device=device, requires_grad=True), 2))
    assert y.feats.shape == (0, 3) and y.batch_size == 2
    y.feats.sum().backward()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: spnn.SparseConvTranspose3d(3, 4, 2, 2, output_padding=2), ValueError,
         r"SparseConvTranspose3d: output_padding must be less than stride or dilation, \(2, 2, 2\), got \(2, 2, 2\)"),
        (lambda x: spnn.SparseConvTranspose3d(5, 4, 2, 2)(x), ValueError, "input must have 5 channels, got 3"),
        (lambda x: spnn.SparseConvTranspose3d(3, 4, 1, padding=4)(x), ValueError, "must leave an output of size >= 1"),
        (lambda x: spnn.SparseConvTranspose3d(3, 4, 2, 2)(x, target=x), ValueError, "target must have tensor_stride"),
        (lambda x: spnn.SparseConvTranspose3d(3, 4, 3)(x, target=x), ValueError,
         r"target must have spatial_shape \(8, 7, 9\), got \(6, 5, 7\)"),
        (lambda x: spnn.SparseInverseConv3d(3, 4, 3)(x), ValueError, "exactly one convolution .* got 0"),
        (lambda x: spnn.SparseInverseConv3d(3, 4, 3)(x.coords), TypeError, "input must be a SparseTensor, got Tensor"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(full_grid())
