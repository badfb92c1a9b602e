# SPDX-License-Identifier: Apache-2.0
"""The sparse encoder against dense convolutions whose empty places are wiped after each layer."""

import pytest
import torch
import torch.nn.functional as F

from pcperc import nn as spnn
from pcperc.models.bevfusion.captured import CapturedSparseEncoder
from pcperc.models.bevfusion.lidar_encoder import SparseEncoder
from pcperc.nn import fuse
from pcperc.sparse import SparseTensor


def random_voxels(shape, count, *, batch_size=2, channels=5) -> SparseTensor:
    limits = torch.tensor([batch_size, *shape])
    coords = torch.zeros(0, 4)
    while len(coords) < count:
        coords = torch.cat([coords, (torch.rand(count, 4) * limits).floor()]).unique(dim=0)
    coords = coords[torch.randperm(len(coords))[:count]].int()
    return SparseTensor(coords, torch.randn(count, channels), batch_size, spatial_shape=shape)


def dense_weight(conv) -> torch.Tensor:
    """(kx, ky, kz, Cin, Cout) to torch's (Cout, Cin, kx, ky, kz)."""
    return conv.weight.permute(4, 3, 0, 1, 2)


def dense_norm(norm, x, mask) -> torch.Tensor:
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * scale
    return (x * scale.view(1, -1, 1, 1, 1) + shift.view(1, -1, 1, 1, 1)) * mask


def dense_encoder(encoder, x, mask, paddings) -> torch.Tensor:
    """The encoder in eval mode on a full grid (B, C, X, Y, Z) with a mask of occupied places."""

    def submanifold(conv, norm, x):
        return dense_norm(norm, F.conv3d(x, dense_weight(conv), padding=1), mask)

    def strided(conv, norm, x, mask, kernel, stride, padding):
        y = F.conv3d(x, dense_weight(conv), stride=stride, padding=padding)
        reached = F.conv3d(mask, torch.ones(1, 1, *kernel), stride=stride, padding=padding) > 0
        return dense_norm(norm, y, reached.float()).relu(), reached.float()

    x = submanifold(encoder.conv_input[0], encoder.conv_input[1], x).relu()
    for index, stage in enumerate(encoder.encoder_layers):
        layers = list(stage)
        while layers and hasattr(layers[0], "conv1"):
            block = layers.pop(0)
            hidden = submanifold(block.conv1, block.bn1, x).relu()
            x = (submanifold(block.conv2, block.bn2, hidden) + x).relu()
        if layers:
            x, mask = strided(layers[0], layers[1], x, mask, (3, 3, 3), 2, paddings[index])
    x, mask = strided(encoder.conv_out[0], encoder.conv_out[1], x, mask, (1, 1, 3), (1, 1, 2), 0)
    return x


def small_encoder(**changes) -> SparseEncoder:
    settings = dict(stem_channels=4, stages=((4, 4, 6), (6, 8), (8,)), strided_paddings=(1, (1, 1, 0)), out_channels=7)
    return SparseEncoder(**settings | changes)


def randomised(encoder) -> SparseEncoder:
    for module in encoder.modules():
        if hasattr(module, "running_mean"):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
    return encoder.eval()


def test_equals_dense_convolutions():
    encoder = randomised(small_encoder())
    voxels = random_voxels((21, 18, 17), 300)
    mask = voxels.replace(feats=torch.ones(300, 1)).dense()
    with torch.no_grad():
        found = encoder({"voxels": voxels})
        expected = dense_encoder(encoder, voxels.dense(), mask, (1, (1, 1, 0)))
    # z: 17 -> 9 -> 4 -> 1; x: 21 -> 11 -> 6; y: 18 -> 9 -> 5
    assert expected.shape == (2, 7, 6, 5, 1)
    torch.testing.assert_close(found, expected[..., 0], rtol=1e-4, atol=1e-4)


def test_every_convolution_is_fused_with_its_norm():
    encoder = randomised(small_encoder())
    names = list(encoder.state_dict())
    fused = fuse(encoder)
    kinds = [type(module).__name__ for module in fused.modules()]
    assert kinds.count("FusedConvBlock") == 1 + (4 + 1) + (2 + 1) + 2 + 1
    assert not {"BatchNorm", "ReLU", "SparseBasicBlock", "ConvBlock"} & set(kinds)
    assert list(encoder.state_dict()) == names and "encoder_layers.0.0.conv1.weight" in names
    voxels = random_voxels((21, 18, 17), 300)
    with torch.no_grad():
        torch.testing.assert_close(fused({"voxels": voxels}), encoder({"voxels": voxels}), rtol=1e-4, atol=1e-4)


def test_heights_become_channels_with_z_fastest():
    encoder = small_encoder().eval()
    voxels = random_voxels((8, 8, 33), 200)  # z: 33 -> 17 -> 8 -> 3
    with torch.no_grad():
        found = encoder({"voxels": voxels})
        mask = voxels.replace(feats=torch.ones(200, 1)).dense()
        expected = dense_encoder(encoder, voxels.dense(), mask, (1, (1, 1, 0)))
    assert found.shape == (2, 21, 2, 2)
    for channel in range(7):
        for z in range(3):
            torch.testing.assert_close(found[:, channel * 3 + z], expected[:, channel, ..., z], rtol=1e-4, atol=1e-4)


def test_published_size():
    encoder = SparseEncoder().eval()
    kernels = 27 * (5 * 16 + 4 * 16**2 + 16 * 32 + 4 * 32**2 + 32 * 64 + 4 * 64**2 + 64 * 128 + 4 * 128**2) + 3 * 128**2
    norms = 2 * (5 * 16 + 5 * 32 + 5 * 64 + 5 * 128 + 128)
    assert sum(p.numel() for p in encoder.parameters()) == kernels + norms == 2_694_352
    norm_modules = [m for m in encoder.modules() if hasattr(m, "running_mean")]
    assert {(m.eps, m.momentum) for m in norm_modules} == {(1e-3, 0.01)}
    with torch.no_grad():
        bev = encoder({"voxels": random_voxels((1440, 1440, 41), 50, batch_size=1)})
    assert bev.shape == (1, 256, 180, 180)
    assert 50 <= (bev != 0).any(1).sum() <= 50 * 4  # each voxel reaches one or two cells along x and along y


def test_order_of_voxels_does_not_matter():
    encoder = small_encoder().eval()
    voxels = random_voxels((16, 16, 17), 200)
    order = torch.randperm(200)
    shuffled = SparseTensor(voxels.coords[order], voxels.feats[order], 2, spatial_shape=(16, 16, 17))
    with torch.no_grad():
        torch.testing.assert_close(encoder({"voxels": shuffled}), encoder({"voxels": voxels}), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_no_voxels_give_an_empty_map(training):
    encoder = small_encoder().train(training)
    voxels = SparseTensor(torch.zeros(0, 4).int(), torch.zeros(0, 5), 2, spatial_shape=(16, 16, 17))
    bev = encoder({"voxels": voxels})
    assert bev.shape == (2, 7, 4, 4)
    assert bev.abs().max() == 0
    bev.sum().backward()


def test_a_sample_without_voxels_leaves_the_other_as_it_is():
    encoder = small_encoder().eval()
    voxels = random_voxels((16, 16, 17), 100, batch_size=1)
    moved = voxels.coords.clone()
    moved[:, 0] = 1
    both = SparseTensor(moved, voxels.feats, 2, spatial_shape=(16, 16, 17))
    with torch.no_grad():
        bev = encoder({"voxels": both})
        torch.testing.assert_close(bev[1:], encoder({"voxels": voxels}), rtol=1e-5, atol=1e-5)
    assert bev[0].abs().max() == 0


def test_gradients_reach_every_parameter():
    encoder = small_encoder()
    encoder({"voxels": random_voxels((16, 16, 17), 300)}).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(stages=((4, 5, 6), (6, 8), (8,))), r"stages\[0\] must keep 4 channels, got \(4, 5, 6\)"),
        (dict(stages=((4, 6), (6, 8), (6,))), r"stages\[2\] must keep 8 channels"),
        (dict(strided_paddings=(1,)), "strided_paddings must be 2, got 1"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        small_encoder(**changes)


def test_an_encoder_in_eval_mode_can_be_captured_and_none_in_training(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # nothing runs on it before the first call
    assert not CapturedSparseEncoder(small_encoder().eval(), capacity=100).captured.training
    partly = small_encoder().eval()
    partly.conv_out[1].train()
    for encoder in (small_encoder().train(), partly):
        with pytest.raises(ValueError, match="capture: model must be in eval mode"):
            CapturedSparseEncoder(encoder, capacity=100)
    assert partly.conv_out[1].training


@pytest.mark.gpu
def test_a_captured_encoder_gives_the_same_map():
    encoder = small_encoder().eval().cuda()
    captured = CapturedSparseEncoder(encoder, capacity=400)
    for count in (300, 200, 350):
        voxels = random_voxels((16, 16, 17), count)
        voxels = SparseTensor(voxels.coords.cuda(), voxels.feats.cuda(), 2, spatial_shape=(16, 16, 17))
        with torch.no_grad():
            found, expected = captured({"voxels": voxels}), encoder({"voxels": voxels})
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_published_paddings_of_the_steps_down():
    """Along z the last one has none: 41, 21, 11, 5; with one the map would have the same size, but other places."""
    convs = [module for module in SparseEncoder().modules() if isinstance(module, spnn.SparseConv3d)]
    assert [tuple(conv.padding) for conv in convs] == [(1, 1, 1), (1, 1, 1), (1, 1, 0), (0, 0, 0)]
    assert [tuple(conv.stride) for conv in convs] == [(2, 2, 2)] * 3 + [(1, 1, 2)]
