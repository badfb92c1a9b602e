# SPDX-License-Identifier: Apache-2.0
"""Blocks against their formula in plain torch, and a training step of theirs against that of their parts."""

import copy

import pytest
import torch
import torch.nn.functional as F

import pcperc.nn as spnn
from pcperc import SparseTensor
from pcperc.nn.residual import norm_and_activation
from tests.nn.blocks import BLOCKS, batch_norm, randomised, voxels
from tests.nn.test_conv import dense_weight, sparse_grid
from tests.ops.clouds import coords_of


@pytest.mark.parametrize("out_channels", [3, 5])
def test_residual_block_is_its_formula_on_a_dense_grid(out_channels, device):
    x = sparse_grid(device=device)
    block = randomised(spnn.ResidualBlock(3, out_channels).double().to(device))
    b, i, j, k = x.coords.long().unbind(1)

    def conv_norm(layer, feats, padding):
        grid = F.conv3d(x.replace(feats=feats).dense(), dense_weight(layer.conv), padding=padding)
        return batch_norm(layer.norm, grid[b, :, i, j, k])

    shortcut = x.feats if out_channels == 3 else conv_norm(block.shortcut, x.feats, 0)
    expected = (conv_norm(block.block2, conv_norm(block.block1, x.feats, 1).relu(), 1) + shortcut).relu()
    torch.testing.assert_close(block(x).feats, expected)


def in_two_steps(block, x, residual=None):
    return norm_and_activation(block.conv(x), block.norm, block.activation, residual)


def results_of_training(block, compute, x, residual=None):
    """Output, gradients and recorded statistics of a step of a copy of the block."""
    block = copy.deepcopy(block)
    inputs = [each.replace(feats=each.feats.clone().requires_grad_()) for each in (x, residual) if each is not None]
    out = compute(block, *inputs).feats
    upstream = torch.linspace(-1, 1, out.numel(), device=out.device, dtype=out.dtype).view(out.shape)
    leaves = [each.feats for each in inputs] + list(block.parameters())
    return out, *torch.autograd.grad(out, leaves, upstream), *block.buffers()


SMALL_BLOCKS = [name for name in BLOCKS if type(BLOCKS[name]()) is spnn.ConvBlock]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("name", [*SMALL_BLOCKS, "momentum_none", "not_tracked"])
def test_a_training_step_is_that_of_the_parts(name, with_residual, autocast, device):
    block = BLOCKS["relu" if name not in BLOCKS else name]()
    if name == "momentum_none":
        block.norm.momentum = None
    if name == "not_tracked":
        block.norm.track_running_stats = False
    block, x = block.to(device).train(), voxels(device=device)
    residual = None
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        if with_residual:
            residual = block.conv(x)
            residual = residual.replace(feats=torch.randn_like(residual.feats))
        found = [results_of_training(block, compute, x, residual) for compute in (in_two_steps, type(block).__call__)]
    for expected, got in zip(*found, strict=True):
        assert got.dtype == expected.dtype and torch.equal(got, expected)


def test_a_residual_of_another_type_is_added_as_before():
    block, x = BLOCKS["relu"]().train(), voxels()
    residual = x.replace(feats=torch.randn(len(x), 6))
    with torch.autocast("cpu", torch.bfloat16):
        out = block(x, residual)
        assert torch.equal(out.feats, in_two_steps(copy.deepcopy(block), x, residual).feats)
    assert out.dtype == torch.float32


def test_one_voxel_in_training_takes_the_running_statistics():
    block = BLOCKS["relu"]().train()
    x = SparseTensor(coords_of((0, 0, 0, 0)), torch.randn(1, 4))
    before = copy.deepcopy(block.state_dict())
    assert torch.equal(block(x).feats, block.eval()(x).feats)
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


class Doubled(spnn.SubMConv3d):
    """A convolution of a user's own that is one by descent alone."""

    def forward(self, x):
        y = super().forward(x)
        return y.replace(feats=2 * y.feats)


class DoubledInside(spnn.SubMConv3d):
    """The same by another step of the layer."""

    def _convolve(self, x, kernel_map):
        y = super()._convolve(x, kernel_map)
        return y.replace(feats=2 * y.feats)


@pytest.mark.parametrize("doubled", [Doubled, DoubledInside])
def test_parts_of_a_users_own_and_hooks_are_called_in_training(doubled):
    block = spnn.ConvBlock(doubled(4, 6, 3), spnn.BatchNorm(6), spnn.ReLU()).train()
    plain = copy.deepcopy(block)
    plain.conv = spnn.SubMConv3d(4, 6, 3)
    plain.conv.load_state_dict(block.conv.state_dict())
    x = voxels()
    block(x), plain(x)
    torch.testing.assert_close(block.norm.running_mean, 2 * plain.norm.running_mean)
    for part in (plain.conv, plain.norm, plain.activation):
        called = []
        handle = part.register_forward_hook(lambda *_, called=called: called.append(1))
        plain(x)
        handle.remove()
        assert called == [1]


def test_hooks_of_all_modules_see_the_convolution_in_training():
    block, x, seen = BLOCKS["relu"]().train(), voxels(), []
    handle = torch.nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
    block(x)
    handle.remove()
    assert block.conv in seen


def test_a_norm_of_other_channels_is_named_in_training():
    block = spnn.ConvBlock(spnn.SubMConv3d(4, 6, 3), spnn.BatchNorm(5), spnn.ReLU()).train()
    with pytest.raises(ValueError, match="BatchNorm: input must have 5 channels, got 6"):
        block(voxels())
