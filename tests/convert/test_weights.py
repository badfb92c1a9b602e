# SPDX-License-Identifier: Apache-2.0
"""Converted weights against loops over the tap order that each library documents or has in its source."""

import math

import pytest
import torch

import pcperc.nn as spnn
from pcperc import SparseTensor, ops
from pcperc.convert import SOURCES, convert_weight
from tests.ops.clouds import random_coords
from tests.oracles_peers import convolve, tap_offsets

CIN, COUT = 2, 3
ODD = [(3, 3, 3), (1, 3, 5), (1, 1, 1)]
EVEN = [(2, 2, 2), (2, 3, 1)]


def cloud():
    coords = random_coords(80, low=-2, high=2)
    return SparseTensor(coords, torch.randn(len(coords), CIN, dtype=torch.float64), 2)


def flat_weight(kernel_size):
    return torch.randn(math.prod(kernel_size), CIN, COUT, dtype=torch.float64)


def in_layout(source, flat, kernel_size):
    """The weight as the library stores it, from a row for each tap in the library's order."""
    if source == "spconv1":
        return flat.view(*kernel_size, CIN, COUT)
    if source == "spconv2":
        if math.prod(kernel_size) == 1:
            return flat.reshape(COUT, *kernel_size, CIN)  # memory of (in, out), labelled (out, 1, 1, 1, in)
        return flat.view(*kernel_size, CIN, COUT).movedim(-1, 0).contiguous()
    return flat[0] if len(flat) == 1 else flat


def submanifold(weight, kernel_size, x):
    layer = spnn.SubMConv3d(CIN, COUT, kernel_size, bias=False).double()
    layer.load_state_dict({"weight": weight})
    return layer(x).feats.detach()


@pytest.mark.parametrize("kernel_size", ODD, ids=str)
@pytest.mark.parametrize("source", SOURCES)
def test_odd_kernels_mean_the_same(source, kernel_size):
    x, flat = cloud(), flat_weight(kernel_size)
    offsets = tap_offsets(source.rstrip("12"), kernel_size)
    expected = convolve(x.coords.numpy(), x.feats.numpy(), x.coords.numpy(), flat.numpy(), offsets)
    ours = convert_weight(in_layout(source, flat, kernel_size), source=source, kernel_size=kernel_size)
    torch.testing.assert_close(submanifold(ours, kernel_size, x), torch.from_numpy(expected))


@pytest.mark.parametrize("kernel_size", EVEN, ids=str)
@pytest.mark.parametrize("source", ["torchsparse", "minkowski"])
def test_even_kernels_mean_the_same(source, kernel_size):
    x, flat = cloud(), flat_weight(kernel_size)
    offsets = tap_offsets(source, kernel_size)
    expected = convolve(x.coords.numpy(), x.feats.numpy(), x.coords.numpy(), flat.numpy(), offsets)
    ours = convert_weight(in_layout(source, flat, kernel_size), source=source, kernel_size=kernel_size)
    torch.testing.assert_close(submanifold(ours, kernel_size, x), torch.from_numpy(expected))


@pytest.mark.parametrize("source", ["torchsparse", "minkowski"])
def test_strided_even_kernels_mean_the_same(source):
    x, flat = cloud(), flat_weight((2, 2, 2))
    layer = spnn.SparseConv3d(CIN, COUT, 2, 2, bias=False).double()
    layer.load_state_dict({"weight": convert_weight(flat, source=source, kernel_size=(2, 2, 2))})
    y = layer(x)
    offsets = tap_offsets(source, (2, 2, 2))
    expected = convolve(x.coords.numpy(), x.feats.numpy(), y.coords.numpy(), flat.numpy(), offsets, stride=2)
    torch.testing.assert_close(y.feats.detach(), torch.from_numpy(expected))


@pytest.mark.parametrize("source", SOURCES)
def test_reversed_axes_are_those_of_reversed_coordinates(source):
    kernel_size = (1, 3, 5)
    x, flat = cloud(), flat_weight(kernel_size)
    theirs = in_layout(source, flat, kernel_size[::-1])
    in_their_order = SparseTensor(x.coords[:, [0, 3, 2, 1]], x.feats, 2)
    expected = submanifold(
        convert_weight(theirs, source=source, kernel_size=kernel_size[::-1]), kernel_size[::-1], in_their_order
    )
    ours = convert_weight(theirs, source=source, kernel_size=kernel_size, reverse_axes=True)
    torch.testing.assert_close(submanifold(ours, kernel_size, x), expected)


def test_spconv2_reads_one_tap_of_stride_one_as_a_matrix_and_any_other_by_its_axes():
    weight = torch.arange(6.0).view(COUT, 1, 1, 1, CIN)
    plain = convert_weight(weight, source="spconv2", kernel_size=(1, 1, 1))
    assert plain.flatten(0, 2).tolist() == [[[0, 1, 2], [3, 4, 5]]]
    strided = convert_weight(weight, source="spconv2", kernel_size=(1, 1, 1), stride=(2, 2, 2))
    assert strided.flatten(0, 2).tolist() == [[[0, 2, 4], [1, 3, 5]]]


def test_a_channelwise_minkowski_weight_has_a_group_for_each_channel():
    flat = torch.randn(27, CIN, dtype=torch.float64)
    x = cloud()
    ours = convert_weight(flat, source="minkowski", kernel_size=(3, 3, 3))
    assert spnn.SubMConv3d(CIN, CIN, 3, groups=CIN).weight.shape == ours.shape
    coords, diagonal = x.coords.numpy(), torch.diag_embed(flat).numpy()
    expected = convolve(coords, x.feats.numpy(), coords, diagonal, tap_offsets("minkowski", (3, 3, 3)))
    layer = spnn.SubMConv3d(CIN, CIN, 3, bias=False).double()  # without groups, the same by a diagonal
    layer.load_state_dict({"weight": torch.diag_embed(ours.squeeze(-2))})
    torch.testing.assert_close(layer(x).feats.detach(), torch.from_numpy(expected))


def test_the_result_is_a_copy():
    weight = torch.zeros(3, 3, 3, CIN, COUT)
    convert_weight(weight, source="spconv1", kernel_size=(3, 3, 3)).fill_(1)
    assert not weight.any()


@pytest.mark.parametrize(
    ("source", "shape", "message"),
    [
        ("spconv1", (3, 3, 1, 2, 3), r"weight must be \(3, 3, 3, in, out\), got \(3, 3, 1, 2, 3\) float32"),
        ("spconv2", (3, 3, 3, 8, 16), r"weight must be \(out, 3, 3, 3, in\), got"),
        ("torchsparse", (8, 2, 3), r"weight must be \(27, in, out\), got"),
        ("minkowski", (26, 2), r"weight must be \(27, in, out\), got"),
        ("spconv3", (1,), "source must be one of spconv1, spconv2, torchsparse, minkowski, got 'spconv3'"),
    ],
)
def test_other_shapes_are_named(source, shape, message):
    with pytest.raises(ValueError, match=f"convert_weight: {message}"):
        convert_weight(torch.zeros(shape), source=source, kernel_size=(3, 3, 3))


def test_one_number_is_no_kernel_size():
    with pytest.raises(TypeError, match="convert_weight: kernel_size must be a whole number for each axis, got 3"):
        convert_weight(torch.zeros(27, 2, 3), source="torchsparse", kernel_size=3)
    weight = torch.randn(4, 1, 1, 1, 4)
    pairs = [convert_weight(weight, source="spconv2", kernel_size=(1, 1, 1), stride=s) for s in (2, (2, 2, 2))]
    assert torch.equal(*pairs)


@pytest.mark.parametrize("kernel_size", [3, 5, (1, 3, 5)], ids=str)
def test_strided_odd_kernels_of_minkowski_at_the_outputs_that_it_keeps(kernel_size):
    """docs/migrate.md: centred, and given the voxels' own coordinates rounded down as the target."""
    x = cloud()
    sizes = (kernel_size,) * 3 if isinstance(kernel_size, int) else kernel_size
    flat = flat_weight(sizes)
    rows = ops.unique_coords(torch.cat([x.coords[:, :1], x.coords[:, 1:] // 2], 1)).coords
    target = SparseTensor(rows, torch.zeros(len(rows), 0, dtype=torch.float64), 2, tensor_stride=2)
    padding = [(size - 1) // 2 for size in sizes]
    layer = spnn.SparseConv3d(CIN, COUT, kernel_size, 2, padding, bias=False).double()
    layer.load_state_dict({"weight": convert_weight(flat, source="minkowski", kernel_size=sizes)})
    offsets = tap_offsets("minkowski", sizes)
    expected = convolve(x.coords.numpy(), x.feats.numpy(), rows.numpy(), flat.numpy(), offsets, stride=2)
    torch.testing.assert_close(layer(x, target=target).feats.detach(), torch.from_numpy(expected))
