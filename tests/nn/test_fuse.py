# SPDX-License-Identifier: Apache-2.0
"""Fused blocks against unfused ones, and what is fused."""

import copy

import pytest
import torch

import pcperc.nn as spnn
from tests.nn.blocks import BLOCKS, randomised, voxels
from tests.tolerances import tolerances


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("make", BLOCKS.values(), ids=BLOCKS)
def test_fused_equals_unfused(make, dtype, device):
    exact = randomised(make()).double().to(device)
    x = voxels(dtype=dtype, device=device)
    model = copy.deepcopy(exact).to(dtype)
    before = copy.deepcopy(model.state_dict())
    fused = spnn.fuse(model)
    expected = copy.deepcopy(model).double()(x.replace(feats=x.feats.double())).feats
    # Two convolutions of 108 terms each; the fold rounds the weights once more.
    torch.testing.assert_close(fused(x).feats.double(), expected, **tolerances(dtype, 27 * 6 * 4))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(isinstance(module, spnn.ConvBlock) for module in fused.modules())
    assert not fused.training and not any(p.requires_grad for n, p in fused.named_parameters() if ".conv." in n)


def test_a_block_used_twice_is_fused_once():
    block = randomised(spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3), spnn.BatchNorm(4), spnn.ReLU()))
    model = torch.nn.Sequential(block, block).eval()
    fused = spnn.fuse(model)
    assert fused[0] is fused[1]
    x = voxels()
    torch.testing.assert_close(fused(x).feats, model(x).feats, **tolerances(torch.float32, 500))


class Twice(torch.nn.Sequential):
    def forward(self, x):
        return super().forward(super().forward(x))


def test_layers_behind_each_other_are_a_block_where_nothing_stands_between():
    def conv():
        return spnn.SubMConv3d(4, 4, 3)

    layers = (
        *(conv(), spnn.BatchNorm(4), spnn.GELU()),
        *(conv(), spnn.GroupNorm(2, 4), spnn.ReLU()),
        *(spnn.BatchNorm(4), conv()),
        Twice(conv(), spnn.BatchNorm(4)),
        *(conv(), spnn.SyncBatchNorm(4), spnn.ReLU()),
    )
    model = randomised(torch.nn.Sequential(*layers))
    fused = spnn.fuse(model)
    kinds = [type(layer).__name__ for layer in fused]
    assert kinds[:3] == ["FusedConvBlock", "Identity", "GELU"]
    assert kinds[3:8] == ["SubMConv3d", "GroupNorm", "ReLU", "BatchNorm", "SubMConv3d"]
    assert [type(layer).__name__ for layer in fused[8]] == ["SubMConv3d", "BatchNorm"]
    assert kinds[9:] == ["FusedConvBlock", "Identity", "Identity"]
    assert not any(module.training for module in fused.modules())  # the Identity layers too: a capture looks at all
    assert [type(layer) for layer in model] == [type(layer) for layer in layers]
    x = voxels()
    with torch.no_grad():
        torch.testing.assert_close(fused(x).feats, model(x).feats, **tolerances(torch.float32, 500))
    with pytest.raises(ValueError, match="fuse: model must be in eval mode .*, got model.0 in training mode"):
        spnn.fuse(model.train())


def test_what_cannot_be_fused_is_named_from_the_model_down():
    def layers():
        return [spnn.SubMConv3d(4, 4, 3), spnn.BatchNorm(4), spnn.ReLU()]

    inner = torch.nn.Sequential(torch.nn.Sequential(*layers()), torch.nn.Sequential(*layers()))
    model = torch.nn.ModuleDict({"encoder": inner}).eval()
    inner[1][0].backend = "spconv"
    with pytest.raises(ValueError, match="fuse: conv of model.encoder.1.0 must have backend None, got 'spconv'"):
        spnn.fuse(model)
    with pytest.raises(ValueError, match="fuse: conv of model.1.0 must have"):
        spnn.fuse(inner)


def test_blocks_that_share_a_convolution_are_fused_apart():
    conv = spnn.SubMConv3d(4, 4, 3)
    blocks = (spnn.ConvBlock(conv, spnn.BatchNorm(4), spnn.ReLU()), spnn.ConvBlock(conv, spnn.BatchNorm(4)))
    model = randomised(torch.nn.Sequential(*blocks, conv))
    x = voxels()
    torch.testing.assert_close(spnn.fuse(model)(x).feats, model(x).feats, **tolerances(torch.float32, 500))


class Clipped(spnn.ReLU):
    """An activation of a user's own that is a ReLU by descent alone."""

    def forward(self, x):
        return x.replace(feats=x.feats.clamp(0, 0.1))


def test_an_activation_derived_from_relu_is_called():
    model = randomised(spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3), spnn.BatchNorm(4), Clipped()))
    x = voxels()
    torch.testing.assert_close(spnn.fuse(model)(x).feats, model(x).feats)
    assert model(x).feats.max() == 0.1


def test_a_fused_block_refuses_to_learn():
    fused = spnn.fuse(randomised(spnn.ResidualBlock(4, 4)))
    x = voxels()
    x.feats.requires_grad_()
    with pytest.raises(ValueError, match="gradient"):
        fused(x)
    with torch.no_grad():
        assert fused(x).feats.shape == x.feats.shape
