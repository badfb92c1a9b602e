# SPDX-License-Identifier: Apache-2.0
"""Without gradients layers skip the checks of the public operators: the same results, and the same messages."""

import pytest
import torch

import pcperc.nn as spnn
from tests.nn.test_residual import randomised, voxels

LAYERS = {
    "conv": ("sparse_conv", lambda: spnn.SubMConv3d(4, 4, 3)),
    "strided": ("sparse_conv", lambda: spnn.SparseConv3d(4, 4, 2, 2, bias=False)),
    "fused": ("sparse_conv_fused", lambda: spnn.fuse(block())),
    "norm": ("batch_norm", lambda: spnn.BatchNorm(4)),
}


def block():
    return randomised(spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3), spnn.BatchNorm(4), spnn.ReLU()))


@pytest.fixture(params=LAYERS)
def made(request):
    op, make = LAYERS[request.param]
    return op, randomised(make())


@pytest.fixture(params=[torch.no_grad, torch.inference_mode])
def mode(request):
    return request.param


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_a_dtype_that_does_not_fit_is_named(made, mode, dtype):
    op, layer = made
    with mode(), pytest.raises(ValueError, match=rf"^{op}: \w+ must .* dtype of feats.* got .*float(64|16) on cpu"):
        layer.to(dtype)(voxels())


@pytest.mark.parametrize("where", ["meta", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_layer_on_another_device_is_named(made, mode, where):
    op, layer = made
    with mode(), pytest.raises(ValueError, match=rf"^{op}: \w+ must be on cpu like feats, got {where}"):
        layer.to(where)(voxels())


@pytest.mark.gpu
def test_an_input_on_another_device_is_named(made, mode):
    op, layer = made
    with mode(), pytest.raises(ValueError, match=rf"^{op}: \w+ must be on cuda:0 like feats, got cpu"):
        layer(voxels(device="cuda"))


def test_a_residual_of_another_dtype_is_named(mode):
    x = voxels()
    with mode(), pytest.raises(ValueError, match=r"^sparse_conv_fused: residual must .* in the dtype of feats, got"):
        spnn.fuse(block())(x, x.double())


def test_results_are_those_with_checks(made, mode, device):
    _, layer = made
    layer, x = layer.to(device).requires_grad_(False), voxels(device=device)
    with mode():
        found = layer(x).feats
    assert torch.equal(found, layer(x).feats)


def test_autocast_is_followed(made, mode, device):
    op, layer = made
    layer, x = layer.to(device).requires_grad_(False), voxels(device=device)
    with torch.autocast(device.type, torch.bfloat16):
        with mode():
            found = layer(x).feats
        assert found.dtype == (torch.float32 if op == "batch_norm" else torch.bfloat16)
        assert torch.equal(found, layer(x).feats)
