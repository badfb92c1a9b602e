# SPDX-License-Identifier: Apache-2.0
"""SECOND backbone and pyramid, and the fuser."""

import pytest
import torch

from pcperc.models.bevfusion.bev_decoder import SECOND, SECONDFPN, BEVDecoder
from pcperc.models.bevfusion.fuser import ConvFuser


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def conv_bn(cin: int, cout: int, side: int) -> int:
    return cin * cout * side * side + 2 * cout


def test_published_parameter_counts():
    stage0 = conv_bn(256, 128, 3) + 5 * conv_bn(128, 128, 3)
    stage1 = conv_bn(128, 256, 3) + 5 * conv_bn(256, 256, 3)
    assert count(SECOND()) == stage0 + stage1 == 4_280_832
    assert count(SECONDFPN()) == conv_bn(128, 256, 1) + conv_bn(256, 256, 2) == 295_936
    assert count(ConvFuser()) == conv_bn(336, 256, 3) == 774_656


def test_norms_are_as_published():
    norms = [m for m in BEVDecoder(SECOND(), SECONDFPN()).modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 14
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}


def test_decoder_keeps_the_grid_and_sees_as_far_as_its_convolutions():
    decoder = BEVDecoder(SECOND(4, (4, 6), num_convs=(1, 1)), SECONDFPN((4, 6), (3, 5))).eval()
    bev = torch.randn(1, 4, 40, 36, requires_grad=True)
    out = decoder(bev)
    assert out.shape == (1, 8, 40, 36)
    # Cell (20, 20) reads coarse cell (10, 10): that sees fine 20 +- 3 by its two 3 x 3 convolutions, and those
    # +- 2 by the first stage; the fine branch sees less.
    out[0, :, 20, 20].sum().backward()
    touched = bev.grad[0].abs().sum(0).nonzero()
    assert touched.min(0).values.tolist() == [15, 15]
    assert touched.max(0).values.tolist() == [25, 25]


def test_pyramid_upsamples_by_its_kernel_alone():
    """With identity weights each coarse cell is repeated over 2 x 2 fine ones."""
    neck = SECONDFPN((1, 1), (1, 1), norm_eps=1e-12).eval()
    with torch.no_grad():
        for weight in (neck.deblocks[0].conv.weight, neck.deblocks[1][0].weight):
            weight.fill_(1.0)
    fine, coarse = torch.rand(1, 1, 4, 6), torch.rand(1, 1, 2, 3)
    out = neck([fine, coarse])
    torch.testing.assert_close(out[:, :1], fine)
    torch.testing.assert_close(out[:, 1:], coarse.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_fuser_concatenates_camera_first():
    fuser = ConvFuser((1, 2), 1).eval()
    fuser.conv.norm.eps = 1e-12
    with torch.no_grad():
        fuser.conv.conv.weight.zero_()
        fuser.conv.conv.weight[0, :, 1, 1] = torch.tensor([100.0, 10.0, 1.0])
    camera, lidar = torch.full((1, 1, 2, 2), 3.0), torch.tensor([4.0, 5.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    torch.testing.assert_close(fuser([camera, lidar]), torch.full((1, 1, 2, 2), 345.0))


def test_an_untrained_fuser_may_pass_one_modality_on():
    fuser = ConvFuser((2, 3), 3, passes=1).eval()
    fuser.conv.norm.eps = 1e-12
    camera, lidar = torch.rand(1, 2, 4, 5), torch.rand(1, 3, 4, 5)
    torch.testing.assert_close(fuser([camera, lidar]), lidar)
    fuser([camera, lidar]).pow(2).sum().backward()
    assert fuser.conv.conv.weight.grad[:, :2].abs().sum() > 0  # the other modality is learned from the first step


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ConvFuser((1, 2), 2, passes=0), "passes must be the index of a modality with 2 channels, got 0"),
        (lambda: ConvFuser((1, 2), 2, passes=2), "got 2 for in_channels"),
        (lambda: SECOND(4, (4, 6), num_convs=(1,)), "one length, got 2, 1, 2"),
        (lambda: SECONDFPN((4,), (4, 6)), "one length, got 1, 2, 2"),
        (lambda: SECONDFPN((4, 6), (3, 5))([torch.zeros(1, 4, 8, 8)]), "must be 2 maps, got 1"),
        (lambda: ConvFuser((1, 2), 1)([torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4)]), r"C = \(1, 2\), got"),
        (lambda: ConvFuser((1, 2), 1)([torch.zeros(1, 1, 4, 4), torch.zeros(1, 2, 4, 5)]), "one grid"),
        (lambda: ConvFuser((1, 2), 1)([torch.zeros(1, 2, 4, 5)]), r"C = \(1, 2\), got"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
