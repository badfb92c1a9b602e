# SPDX-License-Identifier: Apache-2.0
"""Tensors of other libraries by their attributes alone; tests/convert/test_spconv.py has spconv itself."""

import sys
from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType

import pytest
import torch

from pcperc import SparseTensor
from tests.ops.clouds import coords_of


@dataclass
class SpconvLike:
    features: torch.Tensor
    indices: torch.Tensor
    spatial_shape: list
    batch_size: int


@dataclass
class TorchsparseLike:
    """The constructor and attributes of torchsparse 2.1's SparseTensor."""

    feats: torch.Tensor
    coords: torch.Tensor
    stride: tuple = (1, 1, 1)
    spatial_range: tuple | None = None


@pytest.fixture
def torchsparse(monkeypatch):
    module = ModuleType("torchsparse")
    module.SparseTensor = TorchsparseLike
    monkeypatch.setitem(sys.modules, "torchsparse", module)


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchsparse", None)
    monkeypatch.setitem(sys.modules, "spconv.pytorch", None)


def test_from_spconv_reads_attributes_and_turns_axes_round():
    theirs = SpconvLike(torch.ones(2, 3), coords_of((0, 1, 2, 3), (1, 0, 0, 4)), [4, 5, 6], 2)
    x = SparseTensor.from_spconv(theirs)
    assert x.feats is theirs.features and torch.equal(x.coords, theirs.indices)
    assert (x.batch_size, x.spatial_shape, x.tensor_stride) == (2, (4, 5, 6), (1, 1, 1))
    turned = SparseTensor.from_spconv(theirs, reverse_axes=True)
    assert turned.coords.tolist() == [[0, 3, 2, 1], [1, 4, 0, 0]] and turned.spatial_shape == (6, 5, 4)


@pytest.mark.parametrize("shape", [None, (4, 5, 6)])
def test_torchsparse_tensors_go_there_and_back(torchsparse, shape):
    coords = coords_of((0, 1, 2, 3), (1, 0, 0, 4))
    x = SparseTensor(coords, torch.ones(2, 3), 2, spatial_shape=shape, tensor_stride=(2, 2, 4))
    theirs = x.to_torchsparse()
    assert theirs.stride == (2, 2, 4) and theirs.spatial_range == (None if shape is None else (2, *shape))
    back = SparseTensor.from_torchsparse(theirs)
    assert torch.equal(back.coords, coords) and back.feats is x.feats
    assert (back.batch_size, back.spatial_shape, back.tensor_stride) == (2, shape, (2, 2, 4))


def test_what_is_missing_is_named(nothing_installed):
    x = SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(1, 1), 1)
    with pytest.raises(ImportError, match="to_spconv: needs spconv, which is not installed"):
        x.to_spconv()
    with pytest.raises(ImportError, match="to_torchsparse: needs torchsparse, which is not installed"):
        x.to_torchsparse()
    with pytest.raises(TypeError, match="from_spconv: tensor must have .* got SparseTensor without features, indices"):
        SparseTensor.from_spconv(x)
    with pytest.raises(TypeError, match="from_torchsparse: tensor must have .* got Tensor without feats, coords"):
        SparseTensor.from_torchsparse(x.feats)


def test_what_the_other_cannot_hold_is_named(torchsparse, monkeypatch):
    monkeypatch.setitem(sys.modules, "spconv.pytorch", ModuleType("spconv.pytorch"))
    x = SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(1, 1), 1)
    with pytest.raises(ValueError, match="to_spconv: needs a spatial_shape, got an unbounded lattice"):
        x.to_spconv()
    with pytest.raises(ValueError, match="to_torchsparse: needs three spatial axes, got 2"):
        SparseTensor(torch.zeros(1, 3).int(), torch.ones(1, 1), 1).to_torchsparse()
    finer = SparseTensor(x.coords, x.feats, 1, tensor_stride=(1, Fraction(1, 2), 1))
    with pytest.raises(ValueError, match=r"to_torchsparse: needs a whole tensor_stride, got \('1', '1/2', '1'\)"):
        finer.to_torchsparse()
