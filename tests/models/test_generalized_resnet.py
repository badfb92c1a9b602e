# SPDX-License-Identifier: Apache-2.0
"""The residual decoder of the camera-only detector."""

import torch
import torch.nn.functional as F

from pcperc.models.bevfusion.generalized_resnet import LSSFPN, GeneralizedResNet


def conv_bn(cin: int, cout: int, side: int) -> int:
    return cin * cout * side * side + 2 * cout


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_published_parameter_counts():
    expected, channels = 0, 80
    for width, stride in ((128, 2), (256, 2), (512, 1)):
        expected += conv_bn(channels, width, 3) + 3 * conv_bn(width, width, 3)
        expected += conv_bn(channels, width, 1) if stride != 1 or channels != width else 0
        channels = width
    assert count(GeneralizedResNet()) == expected == 11_039_488
    assert count(LSSFPN()) == conv_bn(640, 256, 1) + 2 * conv_bn(256, 256, 3) == 1_345_024


def test_names_of_published_checkpoints():
    names = set(GeneralizedResNet().state_dict())
    assert {"0.0.conv1.weight", "0.0.downsample.0.weight", "2.1.bn2.running_mean"} <= names


def block_by_hand(block, x):
    """Eval mode, in float64, by torch's functions on the block's parameters."""

    def norm(value, bn):
        return F.batch_norm(value, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps)

    out = F.relu(norm(F.conv2d(x, block.conv1.weight, stride=block.conv1.stride, padding=1), block.bn1))
    out = norm(F.conv2d(out, block.conv2.weight, padding=1), block.bn2)
    if isinstance(block.downsample, torch.nn.Sequential):
        conv, bn = block.downsample
        x = norm(F.conv2d(x, conv.weight, stride=conv.stride), bn)
    return F.relu(out + x)


def test_stages_by_hand():
    model = GeneralizedResNet(3, ((2, 4, 2), (1, 4, 1))).double()
    bev = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    model.train()(bev)  # running statistics that are not 0 and 1
    model.eval()
    expected, x = [], bev
    for stage in model:
        for block in stage:
            x = block_by_hand(block, x)
        expected.append(x)
    got = model(bev)
    assert [tuple(feature.shape) for feature in got] == [(2, 4, 5, 4), (2, 4, 5, 4)]
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_pyramid_takes_last_and_first_stage():
    """Upsampled with aligned corners, last stage first in the concatenation."""
    neck = LSSFPN((2, 1), 3, scale_factor=2).eval()
    seen = []
    neck.fuse.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    first, middle, last = torch.rand(1, 1, 5, 3), torch.rand(1, 9, 4, 4), torch.rand(1, 2, 3, 2)
    out = neck([first, middle, last])
    assert out.shape == (1, 3, 10, 6)
    torch.testing.assert_close(seen[0][:, 2:], first)
    torch.testing.assert_close(seen[0][0, :2, ::2, ::2], last[0])  # 3 x 2 corners fall on every second of 5 x 3
    torch.testing.assert_close(seen[0][0, :2, 1, 0], (last[0, :, 0, 0] + last[0, :, 1, 0]) / 2)
    assert len(neck.upsample) == 2
    ramp = torch.arange(5.0).view(1, 1, 5, 1) + 10 * torch.arange(3.0)
    finer = torch.arange(10.0)[:, None] * 4 / 9 + 10 * torch.arange(6.0) * 2 / 5  # from the first centre to the last
    torch.testing.assert_close(neck.upsample[0](ramp)[0, 0], finer)
