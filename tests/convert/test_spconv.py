# SPDX-License-Identifier: Apache-2.0
"""spconv's own layers as the oracle of ours, with converted weights and tensors, in both orders of the axes."""

import pytest
import torch

import pcperc.nn as spnn
from pcperc import SparseTensor
from pcperc.convert import convert_state_dict

SHAPE = (7, 8, 9)
GEOMETRIES = {
    "k3s2p1": dict(kernel_size=3, stride=2, padding=1),
    "k2s2": dict(kernel_size=2, stride=2),
    "k3s1": dict(kernel_size=3),
    "uneven": dict(kernel_size=(4, 2, 3), stride=(3, 1, 2), padding=(1, 0, 1)),
    "dilated": dict(kernel_size=2, padding=1, dilation=(1, 2, 3)),
    "k1s2": dict(kernel_size=1, stride=2),
}


@pytest.fixture(autouse=True)
def _no_grad():
    """spconv's CPU wheel has a forward pass alone."""
    with torch.no_grad():
        yield


def peer_tensor(spconv, channels=4):
    coords = (torch.rand(2, *SHAPE) < 0.2).nonzero().int()
    coords = coords[torch.randperm(len(coords))].contiguous()
    return spconv.SparseConvTensor(torch.randn(len(coords), channels), coords, list(SHAPE), 2)


def converted(layer, peer, **options):
    layer.load_state_dict(convert_state_dict(peer.state_dict(), source="spconv2", model=layer, **options))
    return layer


def assert_same(ours, theirs):
    """The rows of a strided layer are sorted here and in no order there."""
    assert len(ours) == len(theirs.features)
    torch.testing.assert_close(ours.dense(), SparseTensor.from_spconv(theirs).dense())


@pytest.mark.parametrize("kernel_size", [3, (1, 3, 5), 1], ids=str)
def test_submanifold_layers_are_spconvs(spconv, kernel_size):
    theirs, peer = peer_tensor(spconv), spconv.SubMConv3d(4, 5, kernel_size)
    x = SparseTensor.from_spconv(theirs)
    y = converted(spnn.SubMConv3d(4, 5, kernel_size), peer)(x)
    torch.testing.assert_close(y.feats, peer(theirs).features)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_strided_layers_and_their_inverse_are_spconvs(spconv, geometry):
    theirs, peer = peer_tensor(spconv), spconv.SparseConv3d(4, 5, **geometry, indice_key="down")
    x = SparseTensor.from_spconv(theirs)
    y = converted(spnn.SparseConv3d(4, 5, **geometry), peer)(x)
    their_y = peer(theirs)
    assert_same(y, their_y)
    if geometry["kernel_size"] == 1:  # spconv takes an inverse layer of one tap for a matrix product
        return
    back = spconv.SparseInverseConv3d(5, 6, geometry["kernel_size"], indice_key="down")
    z = converted(spnn.SparseInverseConv3d(5, 6, geometry["kernel_size"]), back)(y)
    torch.testing.assert_close(z.feats, back(their_y).features)


@pytest.mark.parametrize("geometry", [dict(kernel_size=2), dict(kernel_size=3, stride=2, padding=1)], ids=str)
def test_max_pooling_is_spconvs(spconv, geometry):
    theirs = peer_tensor(spconv)
    theirs = theirs.replace_feature(
        theirs.features.abs()
    )  # its maximum starts at 0 on the CPU, ours at the first voxel
    y = spnn.SparseMaxPool3d(**geometry)(SparseTensor.from_spconv(theirs))
    assert_same(y, spconv.SparseMaxPool3d(**geometry)(theirs))


def test_a_network_on_reversed_axes_is_spconvs(spconv):
    """Trained on [batch, z, y, x], run on [batch, x, y, z]."""

    def layers(subm, down, norm, relu):
        return [subm, norm, relu, down]

    peer = spconv.SparseSequential(
        *layers(
            spconv.SubMConv3d(4, 6, (1, 3, 5)),
            spconv.SparseConv3d(6, 5, (3, 2, 1), (2, 1, 1), (1, 0, 0)),
            torch.nn.BatchNorm1d(6),
            torch.nn.ReLU(),
        )
    )
    peer[1].running_mean.normal_(), peer[1].weight.uniform_()
    peer[1].eval()
    ours = torch.nn.Sequential(
        *layers(
            spnn.SubMConv3d(4, 6, (5, 3, 1)),
            spnn.SparseConv3d(6, 5, (1, 2, 3), (1, 1, 2), (0, 0, 1)),
            spnn.BatchNorm(6),
            spnn.ReLU(),
        )
    )
    theirs = peer_tensor(spconv)
    x = SparseTensor.from_spconv(theirs, reverse_axes=True)
    assert x.spatial_shape == SHAPE[::-1] and torch.equal(x.coords[:, 1:], theirs.indices[:, 1:].flip(1))
    y = converted(ours, peer, reverse_axes=True).eval()(x)
    expected = SparseTensor.from_spconv(peer(theirs)).dense()
    torch.testing.assert_close(y.dense(), expected.transpose(2, 4))


@pytest.mark.parametrize("reverse_axes", [False, True])
def test_tensors_go_there_and_back(spconv, reverse_axes):
    theirs = peer_tensor(spconv)
    x = SparseTensor.from_spconv(theirs, reverse_axes=reverse_axes)
    back = x.to_spconv(reverse_axes=reverse_axes)
    assert isinstance(back, spconv.SparseConvTensor)
    assert torch.equal(back.indices, theirs.indices) and torch.equal(back.features, theirs.features)
    assert back.spatial_shape == list(SHAPE) and back.batch_size == 2
