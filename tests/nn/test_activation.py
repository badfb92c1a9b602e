# SPDX-License-Identifier: Apache-2.0
"""torch's layers on the features of a sparse tensor."""

import copy
import pickle

import pytest
import torch
from torch import nn

import pcperc.nn as spnn
from pcperc import SparseTensor
from tests.ops.clouds import random_coords

PAIRS = {
    "ELU": (spnn.ELU(0.5), nn.ELU(0.5)),
    "GELU": (spnn.GELU("tanh"), nn.GELU("tanh")),
    "Hardswish": (spnn.Hardswish(), nn.Hardswish()),
    "LeakyReLU": (spnn.LeakyReLU(0.2), nn.LeakyReLU(0.2)),
    "LogSoftmax": (spnn.LogSoftmax(), nn.LogSoftmax(dim=1)),
    "Mish": (spnn.Mish(), nn.Mish()),
    "PReLU": (spnn.PReLU(init=0.3), nn.PReLU(init=0.3)),
    "PReLU_channels": (spnn.PReLU(3, init=0.3), nn.PReLU(3, init=0.3)),
    "ReLU": (spnn.ReLU(), nn.ReLU()),
    "ReLU6": (spnn.ReLU6(), nn.ReLU6()),
    "SELU": (spnn.SELU(), nn.SELU()),
    "SiLU": (spnn.SiLU(), nn.SiLU()),
    "Sigmoid": (spnn.Sigmoid(), nn.Sigmoid()),
    "Softmax": (spnn.Softmax(dim=-1), nn.Softmax(dim=1)),
    "Softplus": (spnn.Softplus(2.0), nn.Softplus(2.0)),
    "Tanh": (spnn.Tanh(), nn.Tanh()),
}


@pytest.mark.parametrize(("layer", "reference"), PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("count", [0, 20])
def test_activations_are_torchs_on_the_features(layer, reference, count):
    x = SparseTensor(random_coords(count), 8 * torch.randn(count, 3), 2)
    y = pickle.loads(pickle.dumps(layer))(x)
    assert y.topology is x.topology and torch.equal(y.feats, reference(x.feats))
    assert list(layer.state_dict()) == list(reference.state_dict())
    name = type(layer).__name__
    with pytest.raises(TypeError, match=f"{name}: input must be a SparseTensor or a PointTensor, got Tensor"):
        layer(x.feats)


def test_slopes_of_prelu_learn_and_must_be_one_for_each_channel():
    x, layer = SparseTensor(random_coords(20), torch.randn(20, 3)), spnn.PReLU(3)
    layer(x).feats.sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.feats.clamp(max=0).sum(0))
    with pytest.raises(ValueError, match="PReLU: input must have 4 channels, got 3"):
        spnn.PReLU(4)(x)


def test_softmax_is_over_channels_alone():
    for make in (spnn.Softmax, spnn.LogSoftmax):
        with pytest.raises(ValueError, match=f"{make.__name__}: dim must be 1, the channels, got 0"):
            make(dim=0)


def test_any_layer_of_torch_can_be_mixed_in():
    class Hardtanh(spnn.OnFeats, nn.Hardtanh):
        pass

    x, layer = SparseTensor(random_coords(20), torch.randn(20, 3)), copy.deepcopy(Hardtanh(-0.5, 0.5))
    assert torch.equal(layer(x).feats, x.feats.clamp(-0.5, 0.5))
    with pytest.raises(TypeError, match="Hardtanh: input must be a SparseTensor"):
        layer(x.feats)
