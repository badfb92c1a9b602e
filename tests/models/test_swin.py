# SPDX-License-Identifier: Apache-2.0
"""The Swin transformer against dense attention in float64, and the properties that follow from its windows."""

import pytest
import torch
from swin_oracle import concatenate_four, swin_forward

from pcperc.models.bevfusion.swin import DropPath, SwinBlock, SwinTransformer
from pcperc.models.bevfusion.window_attention import shifted_window_mask

TINY = dict(embed_channels=8, depths=(2, 2), num_heads=(2, 4), window_size=4, out_stages=(0, 1))


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    """Random values everywhere, so that no bias, scale or position table can go wrong unseen."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def own_name(key) -> str:
    part, stage, block, name = key
    if part == "embed":
        return "patch_embed." + name.replace("conv", "proj")
    if part == "out":
        return f"out_norms.{stage}.{name}"
    if part == "merge":
        return f"stages.{stage}.downsample.{name}"
    name = {"table": "attn.relative_position_bias_table"}.get(name, name)
    for ours, theirs in (("attn.qkv", "qkv"), ("attn.proj", "proj"), ("mlp.0", "fc1"), ("mlp.2", "fc2")):
        name = name.replace(theirs + ".", ours + ".")
    return f"stages.{stage}.blocks.{block}.{name}"


def test_published_size():
    model = SwinTransformer()
    assert sum(p.numel() for p in model.parameters()) == 27_520_506
    assert model.out_channels == (192, 384, 768) and model.out_strides == (8, 16, 32)
    rates = [block.drop_path.probability for stage in model.stages for block in stage.blocks]
    assert rates == pytest.approx([0.2 * i / 11 for i in range(12)])


@pytest.mark.parametrize(
    "height, width",
    [(32, 64), (29, 46), (36, 20), (12, 12)],
    ids=["whole-windows", "padded-patches-and-windows", "odd-merging", "one-window"],
)
def test_equals_dense_attention(height, width):
    model = randomise(SwinTransformer(**TINY)).double().eval()
    images = torch.randn(2, 3, height, width, dtype=torch.float64)
    state = model.state_dict()
    got = model(images)
    for n in range(2):
        expected = swin_forward(
            lambda key: state[own_name(key)],
            concatenate_four,
            images[n],
            depths=(2, 2),
            heads=(2, 4),
            window=4,
            patch=4,
            out_stages=(0, 1),
        )
        assert len(got) == len(expected)
        for ours, reference in zip(got, expected, strict=True):
            torch.testing.assert_close(ours[n], reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("token, rows, columns", [((0, 0), (0, 2), (0, 2)), ((3, 7), (2, 6), (6, 8))])
def test_shifted_block_sees_neighbours_only(token, rows, columns):
    """On an 8 x 8 map, windows of 4 shifted by 2 reach over rows 2..5 and are cut at the border of the map."""
    block = randomise(SwinBlock(4, 2, window=4, shift=2, mlp_ratio=2, drop_path=0.0)).double()
    x = torch.randn(1, 8, 8, 4, dtype=torch.float64, requires_grad=True)
    out = block(x, shifted_window_mask(8, 8, window=4, shift=2).double())
    (seen,) = torch.autograd.grad(out[0, token[0], token[1]].square().sum(), x)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[slice(*rows), slice(*columns)] = True
    assert torch.equal(seen[0].abs().sum(-1) > 0, expected)


def test_mask_of_two_by_two_windows():
    mask = shifted_window_mask(4, 4, window=2, shift=1)
    full, apart = 0.0, float("-inf")
    assert mask.shape == (4, 4, 4)
    assert torch.equal(mask[0], torch.full((4, 4), full))
    # Upper right window: its right column was the map's left one.
    assert mask[1, 0].tolist() == [full, apart, full, apart]
    assert mask[3].eq(0).sum() == 4  # lower right: four corners of the map, each alone


def test_images_do_not_mix():
    model = randomise(SwinTransformer(**TINY)).double().eval()
    images = torch.randn(3, 3, 24, 40, dtype=torch.float64)
    for together, alone in zip(model(images), model(images[1:2]), strict=True):
        torch.testing.assert_close(together[1:2], alone)


def test_checkpointing_changes_no_gradient():
    plain = SwinTransformer(**TINY, drop_path=0.3).train()
    saving = SwinTransformer(**TINY, drop_path=0.3, with_checkpointing=True).train()
    saving.load_state_dict(plain.state_dict())
    images = torch.randn(8, 3, 24, 40)
    for model in (plain, saving):
        torch.manual_seed(3)  # the same branches are dropped
        sum(out.pow(3).mean() for out in model(images)).backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert a.grad is not None and a.grad.abs().sum() > 0, name
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_both_branches_of_a_block_are_dropped():
    block = randomise(SwinBlock(4, 2, window=4, shift=0, mlp_ratio=2, drop_path=1 - 1e-6)).train()
    x = torch.randn(3, 4, 4, 4)
    assert torch.equal(block(x, None), x) and not torch.equal(block.eval()(x, None), x)


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    layer = DropPath(0.25).train()
    x = torch.ones(4000, 2, 3)
    out = layer(x)
    per_image = out.flatten(1)
    assert torch.equal(per_image.amin(1), per_image.amax(1))
    torch.testing.assert_close(per_image.amax(), torch.tensor(1 / 0.75))
    assert abs(out.mean().item() - 1) < 0.04  # 4 standard deviations: 4 * sqrt(0.25 / 0.75 / 4000)
    assert torch.equal(layer.eval()(x), x)


def test_autocast_is_close_to_float32():
    model = SwinTransformer(**TINY).eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(images)
    for a, b in zip(half, model(images), strict=True):
        assert (a.float() - b).abs().mean() < 0.03


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(num_heads=(2,)), r"num_heads must have one entry a stage \(2\), got 1"),
        (dict(num_heads=(2, 3)), r"num_heads must divide the stage's 16 channels, got 3"),
        (dict(out_stages=(0,)), r"end with the last one, 1, got \(0,\)"),
        (dict(out_stages=(1, 2)), r"end with the last one, 1, got \(1, 2\)"),
        (dict(out_stages=()), r"end with the last one, 1, got \(\)"),
    ],
)
def test_constructor_names_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        SwinTransformer(**{**TINY, **change})


def test_forward_names_wrong_shape():
    with pytest.raises(ValueError, match=r"images must be \(N, 3, H, W\), got \(2, 1, 8, 8\)"):
        SwinTransformer(**TINY)(torch.zeros(2, 1, 8, 8))
