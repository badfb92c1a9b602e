# SPDX-License-Identifier: Apache-2.0
"""Parts of a module that are read past nn.Module.__getattr__ are those that the attributes are."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrize

import pcperc.nn as spnn
from pcperc import SparseTensor
from pcperc.nn._parts import own_buffer, own_layer, own_parameter


class _Double(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


def test_they_are_the_attributes():
    block = spnn.ConvBlock(spnn.SubMConv3d(2, 3, 3, bias=False), spnn.BatchNorm(3))
    assert own_layer(block, "conv") is block.conv and own_layer(block, "activation") is None
    assert own_parameter(block.conv, "weight") is block.conv.weight and own_parameter(block.conv, "bias") is None
    assert own_buffer(block.norm, "running_mean") is block.norm.running_mean
    block.norm = None
    assert own_layer(block, "norm") is None
    block.norm = nn.Identity()
    assert own_layer(block, "norm") is block.norm


def test_a_parametrized_weight_is_computed():
    conv = spnn.SubMConv3d(2, 3, 3)
    before = conv.weight.detach().clone()
    parametrize.register_parametrization(conv, "weight", _Double())
    torch.testing.assert_close(own_parameter(conv, "weight"), 2 * before, rtol=0, atol=0)
    torch.testing.assert_close(conv.tap_weights, 2 * before.flatten(0, 2), rtol=0, atol=0)


def test_a_functional_call_has_its_own_parameters():
    conv = spnn.SubMConv3d(2, 3, 1)
    coords = torch.tensor([[0, 1, 2, 3], [0, 4, 5, 6]], dtype=torch.int32)
    x = SparseTensor(coords, torch.randn(2, 2))
    other = {"weight": torch.randn(1, 1, 1, 2, 3), "bias": torch.randn(3)}
    out = functional_call(conv, other, (x,))
    torch.testing.assert_close(out.feats, x.feats @ other["weight"][0, 0, 0] + other["bias"])


def test_what_is_missing_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_layer"):
        own_layer(nn.Identity(), "no_such_layer")
