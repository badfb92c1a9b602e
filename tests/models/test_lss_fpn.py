# SPDX-License-Identifier: Apache-2.0
"""The camera neck against its formulas."""

import pytest
import torch
import torch.nn.functional as F

from pcperc.models.bevfusion.lss_fpn import GeneralizedLSSFPN


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif value.is_floating_point():
            value.normal_(std=0.3)
    return model.double().eval()


def block(x, state, prefix):
    """Convolution of odd kernel at stride 1, batch norm with stored statistics, ReLU."""
    weight = state[f"{prefix}.conv.weight"]
    x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    scale = state[f"{prefix}.norm.weight"] / (state[f"{prefix}.norm.running_var"] + 1e-5).sqrt()
    shift = state[f"{prefix}.norm.bias"] - scale * state[f"{prefix}.norm.running_mean"]
    return (x * scale[:, None, None] + shift[:, None, None]).clamp(min=0)


def bilinear(x, size):
    """Bilinear resize with pixel centres at (i + 0.5) / size, clamped at the border."""
    for dim, count in ((2, size[0]), (3, size[1])):
        old = x.shape[dim]
        at = ((torch.arange(count, dtype=torch.float64, device=x.device) + 0.5) * old / count - 0.5).clamp(0, old - 1)
        low = at.floor().long()
        high = (low + 1).clamp(max=old - 1)
        part = (at - low).reshape(-1, *[1] * (3 - dim))
        x = x.index_select(dim, low) * (1 - part) + x.index_select(dim, high) * part
    return x


def test_published_size():
    model = GeneralizedLSSFPN()
    assert sum(p.numel() for p in model.parameters()) == 1_591_296
    outputs = model.eval()([torch.zeros(1, c, 4 // 2**i, 8 // 2**i) for i, c in enumerate((192, 384, 768))])
    assert [tuple(out.shape) for out in outputs] == [(1, 256, 4, 8), (1, 256, 2, 4)]


@pytest.mark.parametrize("sizes", [[(8, 12), (4, 6), (2, 3)], [(7, 11), (4, 6), (2, 3)]], ids=["even", "odd"])
@pytest.mark.parametrize(("channels", "width"), [((3, 5, 7), 4), ((8, 16, 24), 32)], ids=["narrow", "wide"])
def test_equals_formulas(channels, width, sizes, device):
    model = randomise(GeneralizedLSSFPN(in_channels=channels, out_channels=width)).to(device)
    state = model.state_dict()
    features = [
        torch.randn(2, c, *size, dtype=torch.float64).to(device) for c, size in zip(channels, sizes, strict=True)
    ]
    top = features[2]
    expected = []
    for i in (1, 0):
        top = torch.cat([features[i], bilinear(top, sizes[i])], 1)
        top = block(block(top, state, f"lateral_convs.{i}"), state, f"fpn_convs.{i}")
        expected.insert(0, top)
    for got, reference in zip(model(features), expected, strict=True):
        assert got.is_contiguous()  # cudnn's batch norm is slower in another memory format
        torch.testing.assert_close(got, reference, rtol=1e-9, atol=1e-9)


def test_two_levels_and_gradients():
    model = GeneralizedLSSFPN(in_channels=(3, 5), out_channels=4).train()
    features = [torch.randn(2, 3, 4, 6, requires_grad=True), torch.randn(2, 5, 2, 3, requires_grad=True)]
    (out,) = model(features)
    out.square().sum().backward()
    for tensor in (*features, *model.parameters()):
        assert tensor.grad is not None and tensor.grad.abs().sum() > 0


def test_errors():
    with pytest.raises(ValueError, match=r"in_channels must name two maps or more, got \(3,\)"):
        GeneralizedLSSFPN(in_channels=(3,))
    with pytest.raises(ValueError, match="features must be 2 maps, got 1"):
        GeneralizedLSSFPN(in_channels=(3, 5))([torch.zeros(1, 3, 2, 2)])
