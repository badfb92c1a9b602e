# SPDX-License-Identifier: Apache-2.0
"""Every convolution against torch's dense one on grids of 1 to 3 axes and against loops over 1 to 4, by property."""

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import pcperc.nn as spnn
from pcperc import SparseTensor
from tests import oracles, oracles_sparse_conv, oracles_topology
from tests.ops.clouds import random_coords

EXACT = dict(rtol=1e-10, atol=1e-10)


def layer_class(family, dims):
    return getattr(spnn, f"{family}{dims}d")


def per_axis(dims, low, high):
    return st.tuples(*[st.integers(low, high)] * dims)


@st.composite
def geometries(draw, dims):
    limits = dict(kernel_size=(1, 4 if dims < 4 else 3), stride=(1, 3), padding=(0, 3), dilation=(1, 3))
    return {name: draw(per_axis(dims, *limit)) for name, limit in limits.items()}


channels_and_groups = st.sampled_from([(3, 2, 1), (1, 1, 1), (4, 6, 2), (4, 4, 4), (2, 6, 2)])  # last: depthwise


@st.composite
def grids(draw, *, channels):
    """A tensor on some cells of a bounded lattice, in random order; clouds of the batch may be empty, or all."""
    dims = draw(st.sampled_from([3, 3, 2, 1]))
    shape, batch_size = draw(per_axis(dims, 1, 6)), draw(st.integers(1, 3))
    share, seed = draw(st.sampled_from([0.4, 0.1, 1, 0])), draw(st.integers(0, 99))
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch_size, *shape, generator=generator) < share
    if batch_size == 3:
        mask[1] = False
    coords = mask.nonzero().int()
    coords = coords[torch.randperm(len(coords), generator=generator)]
    feats = torch.randn(len(coords), channels, generator=generator, dtype=torch.float64).requires_grad_()
    return SparseTensor(coords, feats, batch_size, spatial_shape=shape)


def dense_conv(name, layer, x, **options):
    """torch's convolution, or transposed one, of the dense grid of x with the weights of the layer."""
    dims = layer.dims
    if name == "conv":
        weight = layer.weight.permute(dims + 1, dims, *range(dims))
    else:  # (*kernel, Cin / groups, Cout) to torch's (Cin, Cout / groups, *kernel)
        weight = layer.weight.unflatten(-1, (layer.groups, -1))
        weight = weight.permute(dims + 1, dims, dims + 2, *range(dims)).flatten(0, 1)
    return getattr(F, f"{name}{dims}d")(x.dense(), weight, layer.bias, groups=layer.groups, **options)


def pick(grid, coords):
    """The rows of a dense grid (B, C, ...) at coords."""
    batch, *axes = coords.long().unbind(1)
    return grid[(batch, slice(None), *axes)]


def is_reached(grid_of_ones):
    return (grid_of_ones[:, 0] > 0.5).nonzero().int()


def assert_equal_with_gradients(got, wanted, leaves):
    """Values, first gradients, and the gradients of a number made of the first gradients."""
    torch.testing.assert_close(got, wanted, **EXACT)
    upstream = torch.randn_like(wanted).requires_grad_()
    results = []
    for value in (got, wanted):
        first = torch.autograd.grad(value, leaves, upstream, create_graph=True, allow_unused=True)
        first = [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(first, leaves, strict=True)]
        number = sum((g * torch.arange(g.numel(), dtype=g.dtype).view_as(g).sin()).sum() for g in first)
        second = torch.autograd.grad(number, [*leaves, upstream], allow_unused=True)
        second = [
            torch.zeros_like(leaf) if g is None else g for g, leaf in zip(second, [*leaves, upstream], strict=True)
        ]
        results.append([*first, *second])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, **EXACT)


@settings(max_examples=60, deadline=None)
@given(st.data(), channels_and_groups)
def test_strided_conv_equals_dense(data, sizes):
    cin, cout, groups = sizes
    x = data.draw(grids(channels=cin))
    geometry = data.draw(geometries(x.dims))
    layer = layer_class("SparseConv", x.dims)(cin, cout, **geometry, groups=groups).double()
    options = {name: value for name, value in geometry.items() if name != "kernel_size"}
    if min(oracles.output_shape(x.spatial_shape, **geometry)) < 1:
        with pytest.raises(ValueError, match="must leave an output of size >= 1"):
            layer(x)
        return
    y, dense = layer(x), dense_conv("conv", layer, x, **options)
    ones = x.replace(feats=torch.ones(len(x), 1, dtype=torch.float64)).dense()
    kernel = torch.ones(1, 1, *layer.kernel_size, dtype=torch.float64)
    assert torch.equal(y.coords, is_reached(getattr(F, f"conv{x.dims}d")(ones, kernel, **options)))
    assert y.spatial_shape == tuple(dense.shape[2:])
    assert_equal_with_gradients(y.feats, pick(dense, y.coords), [x.feats, layer.weight, layer.bias])


@settings(max_examples=60, deadline=None)
@given(st.data(), channels_and_groups)
def test_transposed_conv_equals_dense(data, sizes):
    cin, cout, groups = sizes
    x = data.draw(grids(channels=cin))
    geometry = data.draw(geometries(x.dims))
    options = {name: value for name, value in geometry.items() if name != "kernel_size"}
    limits = [max(s, d) - 1 for s, d in zip(geometry["stride"], geometry["dilation"], strict=True)]
    options["output_padding"] = data.draw(st.tuples(*[st.integers(0, limit) for limit in limits]))
    layer = layer_class("SparseConvTranspose", x.dims)(
        cin, cout, geometry["kernel_size"], **options, groups=groups
    ).double()
    kernel = torch.ones(1, 1, *layer.kernel_size, dtype=torch.float64)
    ones = x.replace(feats=torch.ones(len(x), 1, dtype=torch.float64)).dense()
    try:
        reached = getattr(F, f"conv_transpose{x.dims}d")(ones, kernel, **options)
    except RuntimeError:  # torch: no output is left
        with pytest.raises(ValueError, match="must leave an output of size >= 1"):
            layer(x)
        return
    y, dense = layer(x), dense_conv("conv_transpose", layer, x, **options)
    assert torch.equal(y.coords, is_reached(reached))
    assert y.spatial_shape == tuple(dense.shape[2:])
    assert_equal_with_gradients(y.feats, pick(dense, y.coords), [x.feats, layer.weight, layer.bias])


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=40, deadline=None)
@given(st.data(), channels_and_groups)
def test_submanifold_conv_equals_dense(data, sizes):
    cin, cout, groups = sizes
    x = data.draw(grids(channels=cin))
    kernel, dilation = data.draw(per_axis(x.dims, 1, 4)), data.draw(per_axis(x.dims, 1, 3))
    layer = layer_class("SubMConv", x.dims)(cin, cout, kernel, dilation=dilation, groups=groups).double()
    y, dense = layer(x), dense_conv("conv", layer, x, padding="same", dilation=dilation)
    assert y.topology is x.topology
    assert_equal_with_gradients(y.feats, pick(dense, y.coords), [x.feats, layer.weight, layer.bias])


@settings(max_examples=30, deadline=None)
@given(st.data(), st.integers(1, 4), st.sampled_from([0, 1, 6]), channels_and_groups, st.integers(0, 99))
def test_unbounded_lattices_of_every_dimension(data, dims, count, sizes, seed):
    """All layers with both gradients and their own against loops, over coordinates that may be negative."""
    cin, cout, groups = sizes
    geometry = data.draw(geometries(dims))
    generator = torch.Generator().manual_seed(seed)
    coords = random_coords(count, dims=dims, low=-3, high=3, seed=seed)
    others = random_coords(5, dims=dims, low=-4, high=4, seed=seed + 1)
    feats = torch.randn(len(coords), cin, generator=generator, dtype=torch.float64).requires_grad_()
    x = SparseTensor(coords, feats, 3)  # the third cloud is empty

    def layer_of(family, **options):
        return layer_class(family, dims)(cin, cout, **options, groups=groups).double()

    def given_voxels(spacing):
        return SparseTensor(others, torch.zeros(len(others), 0), 3, tensor_stride=spacing)

    def check(layer, y, out_coords, table):
        assert np.array_equal(y.coords, out_coords)
        table = torch.from_numpy(table)
        wanted = oracles_sparse_conv.convolve(x.feats, layer.tap_weights, table, layer.bias, groups=groups)
        assert_equal_with_gradients(y.feats, wanted, [x.feats, layer.weight, layer.bias])

    def back(fine, rule):
        """From coords to fine: the map in forward direction, turned round."""
        table = oracles.kernel_map(torch.as_tensor(fine), coords, **rule)
        return oracles_topology.reverse_kernel_map(table, len(fine))

    down = layer_of("SparseConv", **geometry)
    coarse = oracles.downsample_coords(coords, **geometry)
    check(down, down(x), coarse, oracles.kernel_map(coords, torch.from_numpy(coarse), **geometry))
    check(down, down(x, given_voxels(geometry["stride"])), others, oracles.kernel_map(coords, others, **geometry))

    up = layer_of("SparseConvTranspose", **geometry)
    check(up, up(x), fine := oracles_topology.upsample_coords(coords, **geometry), back(fine, geometry))
    spacing = tuple(Fraction(1, s) for s in geometry["stride"])
    check(up, up(x, given_voxels(spacing)), others, back(others, geometry))

    centred = tuple(d * (k - 1) // 2 if k % 2 else 0 for k, d in zip(up.kernel_size, up.dilation, strict=True))
    generative = layer_of("SparseGenerativeConvTranspose", **{n: v for n, v in geometry.items() if n != "padding"})
    rule = geometry | {"padding": centred}
    check(generative, generative(x), fine := oracles_topology.upsample_coords(coords, **rule), back(fine, rule))


@settings(max_examples=20, deadline=None)
@given(st.data(), st.integers(1, 4), st.sampled_from([0, 1, 6]), channels_and_groups, st.integers(0, 99))
def test_inverse_conv_runs_along_the_map_that_made_its_input(data, dims, count, sizes, seed):
    cin, cout, groups = sizes
    geometry = data.draw(geometries(dims))
    coords = random_coords(count, dims=dims, low=-3, high=3, seed=seed)
    x = SparseTensor(coords, torch.zeros(len(coords), 1, dtype=torch.float64), 3)
    middle = layer_class("SparseConv", dims)(1, 1, **geometry).double()(x)
    feats = torch.randn(len(middle), cin, dtype=torch.float64).requires_grad_()
    layer = layer_class("SparseInverseConv", dims)(cin, cout, geometry["kernel_size"], groups=groups).double()
    y = layer(middle.replace(feats=feats))
    assert y.topology is x.topology
    table = oracles.kernel_map(coords, middle.coords, **geometry)
    table = torch.from_numpy(oracles_topology.reverse_kernel_map(table, len(coords)))
    wanted = oracles_sparse_conv.convolve(feats, layer.tap_weights, table, layer.bias, groups=groups)
    assert_equal_with_gradients(y.feats, wanted, [feats, layer.weight, layer.bias])
