# SPDX-License-Identifier: Apache-2.0
"""Swin weights of other libraries: made up in their names, run by their formulas, compared with ours."""

import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file
from swin_oracle import concatenate_four, parameter_shapes, swin_forward, unfold_four

from pcperc.models.bevfusion.swin import SwinTransformer
from pcperc.models.pretrained import load_pretrained_backbone, read_weights

SIZES = dict(depths=(2, 2, 2), heads=(1, 2, 4), window=3, patch=2)
OUT_STAGES = (1, 2)


def make_model(**changes) -> SwinTransformer:
    sizes = dict(embed_channels=4, depths=(2, 2, 2), num_heads=(1, 2, 4), window_size=3, patch_size=2)
    return SwinTransformer(**{**sizes, "out_stages": OUT_STAGES, **changes})


def rename_block(name: str, table: dict[str, str]) -> str:
    stem, _, affine = name.partition(".")
    return table.get(stem, stem) + ("." + affine if affine else "")


def mmdet_name(key) -> str:
    part, s, b, name = key
    if part == "embed":
        return "patch_embed." + name.replace("conv", "projection")
    if part == "merge":
        return f"stages.{s}.downsample.{name}"
    if part == "out":
        return f"norm{s}.{name}"
    table = dict(table="attn.w_msa.relative_position_bias_table", qkv="attn.w_msa.qkv", proj="attn.w_msa.proj")
    return f"stages.{s}.blocks.{b}." + rename_block(name, {**table, "fc1": "ffn.layers.0.0", "fc2": "ffn.layers.1"})


def torchvision_name(key) -> str:
    part, s, b, name = key
    if part == "embed":
        return {"conv": "features.0.0.", "norm": "features.0.2."}[name[:4]] + name[5:]
    if part == "merge":
        return f"features.{2 * s + 2}.{name}"
    if part == "out":
        return f"norm.{name}"
    table = dict(table="attn.relative_position_bias_table", qkv="attn.qkv", proj="attn.proj")
    return f"features.{2 * s + 1}.{b}." + rename_block(name, {**table, "fc1": "mlp.0", "fc2": "mlp.3"})


def timm_name(key, merge_stage=1) -> str:
    part, s, b, name = key
    if part == "embed":
        return "patch_embed." + name.replace("conv", "proj")
    if part == "merge":
        return f"layers.{s + merge_stage}.downsample.{name}"
    if part == "out":
        return f"norm.{name}"
    table = dict(table="attn.relative_position_bias_table", qkv="attn.qkv", proj="attn.proj")
    return f"layers.{s}.blocks.{b}." + rename_block(name, {**table, "fc1": "mlp.fc1", "fc2": "mlp.fc2"})


def original_name(key) -> str:
    return timm_name(key, merge_stage=0)


# name: (names of keys, order of merging, stages with an output norm, buffers and heads that come along)
LAYOUTS = {
    "mmdet": (mmdet_name, unfold_four, (1, 2), ["stages.0.blocks.1.attn.w_msa.relative_position_index"]),
    "torchvision": (
        torchvision_name,
        concatenate_four,
        (2,),
        ["head.weight", "head.bias", "features.1.0.attn.relative_position_index"],
    ),
    "timm": (timm_name, concatenate_four, (2,), ["head.fc.weight", "head.fc.bias", "layers.0.blocks.1.attn_mask"]),
    "original": (original_name, concatenate_four, (2,), ["head.weight", "layers.0.blocks.1.attn_mask"]),
}


def make_weights(layout: str) -> dict[str, torch.Tensor]:
    rename, _, normed, companions = LAYOUTS[layout]
    shapes = parameter_shapes(4, out_stages=normed, **{k: v for k, v in SIZES.items()})
    weights = {rename(key): torch.randn(shape, dtype=torch.float64) * 0.5 for key, shape in shapes}
    return {**weights, **{key: torch.ones(3) for key in companions}}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_loaded_model_equals_the_librarys_formulas(layout, suffix, tmp_path):
    rename, merge, normed, _ = LAYOUTS[layout]
    weights = make_weights(layout)
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"meta": {"epoch": 3}, "state_dict": weights}, file)
    else:
        save_file(weights, file)
    model = make_model().double().eval()
    assert load_pretrained_backbone(model, file) == layout
    image = torch.randn(3, 22, 30, dtype=torch.float64)
    expected = swin_forward(lambda key: weights[rename(key)], merge, image, out_stages=normed, **SIZES)
    got = [out[0] for stage, out in zip(OUT_STAGES, model(image[None]), strict=True) if stage in normed]
    for ours, reference in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


def test_orders_of_merging_differ():
    """Else the test above could not tell whether mmdet's weights were reordered."""
    x = torch.randn(4, 6, 3)
    assert not torch.equal(unfold_four(x), concatenate_four(x))
    assert torch.equal(unfold_four(x).sort().values, concatenate_four(x).sort().values)


@pytest.mark.parametrize("prefix", ["backbone.", "module.backbone.", "encoders.camera.backbone.", "img_backbone."])
def test_backbone_of_a_detector(prefix, tmp_path):
    weights = {prefix + key: value for key, value in make_weights("mmdet").items()}
    other = prefix.replace("backbone", "neck")
    torch.save({"state_dict": {**weights, other + "conv.weight": torch.zeros(1)}}, tmp_path / "detector.pth")
    model = make_model()
    assert load_pretrained_backbone(model, tmp_path / "detector.pth") == "mmdet"
    expected = weights[prefix + "patch_embed.projection.bias"].float()
    assert torch.equal(model.patch_embed.proj.bias.data, expected)


def test_own_layout_and_norms_that_are_missing(tmp_path):
    source, target = make_model(), make_model(out_stages=(0, 1, 2))
    torch.nn.init.normal_(source.out_norms["1"].weight)
    torch.save(source.state_dict(), tmp_path / "own.pth")
    assert load_pretrained_backbone(target, tmp_path / "own.pth") == "pcperc"
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key
    assert target.out_norms["0"].weight.eq(1).all()


def test_output_norms_of_unused_stages_are_left_out(tmp_path):
    torch.save(make_weights("mmdet"), tmp_path / "weights.pth")
    assert load_pretrained_backbone(make_model(out_stages=(2,)), tmp_path / "weights.pth") == "mmdet"


def test_unknown_layout_lists_the_known_ones(tmp_path):
    torch.save({"conv1.weight": torch.zeros(2), "layer1.0.bn1.bias": torch.zeros(2)}, tmp_path / "resnet.pth")
    with pytest.raises(ValueError, match=r"resnet.pth.*pcperc, mmdet, torchvision, timm, original, got conv1.weight"):
        load_pretrained_backbone(make_model(), tmp_path / "resnet.pth")


def break_weights(layout, change):
    weights = make_weights(layout)
    change(weights)
    return weights


@pytest.mark.parametrize(
    "layout, change, message",
    [
        (
            "mmdet",
            lambda w: w.update(absolute_pos_embed=torch.zeros(1)),
            "mmdet layout has no keys.*absolute_pos_embed",
        ),
        (
            "timm",
            lambda w: w.pop("layers.2.blocks.1.norm2.bias"),
            "missing stages.2.blocks.1.norm2.bias, left over none",
        ),
        (
            "torchvision",
            lambda w: w.update({"features.1.2.norm1.bias": torch.zeros(4)}),
            "missing none, left over stages.0.blocks.2.norm1.bias",
        ),
        (
            "original",
            lambda w: w.update({"layers.0.blocks.0.attn.relative_position_bias_table": torch.zeros(169, 1)}),
            r"stages.0.blocks.0.attn.relative_position_bias_table must be \(25, 1\), got \(169, 1\)",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_changes(layout, change, message, tmp_path):
    torch.save(break_weights(layout, change), tmp_path / "weights.pth")
    model = make_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_pretrained_backbone(model, tmp_path / "weights.pth")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class Stranger:
    """A class that a safe loader must not build."""


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_unreadable_files_are_named(name, tmp_path):
    file = tmp_path / name
    with pytest.raises(FileNotFoundError, match=name):
        load_pretrained_backbone(make_model(), file)
    if name.endswith("pth"):
        torch.save(make_weights("timm"), file)
    else:
        save_file(make_weights("timm"), file)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ValueError, match=rf"{name} is truncated or no file of weights"):
        load_pretrained_backbone(make_model(), file)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{name} is truncated or no file of weights"):
        load_pretrained_backbone(make_model(), file)


class Executed:
    """What a file that means harm has in it."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_objects_are_never_built(tmp_path, monkeypatch):
    """Beside the weights they do no harm, and MMEngine's checkpoints have some; in their place they are an error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Stranger, "__setstate__", lambda *_: pytest.fail("was built"), raising=False)
    stranger = Stranger()
    stranger.value = np.zeros(3)
    weights = make_weights("timm")
    hub = {"loss": HistoryBuffer([1.0], [1]), "cfg": ConfigDict(a=dict(b=1)), "rate": np.float64(0.1)}
    torch.save({"state_dict": weights, "hook": stranger, "message_hub": hub, "bad": Executed()}, tmp_path / "a.pth")
    with pytest.raises(
        ValueError, match="a.pth must hold tensors and plain values only, got .*mkdir, which is not exec"
    ):
        read_weights(tmp_path / "a.pth")  # of some modules torch takes no stand-in
    torch.save({"state_dict": weights, "hook": stranger, "message_hub": hub}, tmp_path / "b.pth")
    read = read_weights(tmp_path / "b.pth")
    assert read.keys() == weights.keys() and all(torch.equal(read[key], value) for key, value in weights.items())
    assert not (tmp_path / "executed").exists()
    for content in ({"state_dict": {**weights, "a": stranger}}, stranger):
        torch.save(content, tmp_path / "c.pth")
        with pytest.raises(ValueError, match=r"c.pth .* got [\w.]*Stranger, which is not executed"):
            read_weights(tmp_path / "c.pth")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda file: torch.save({"epoch": 3, 1: 2}, file), "a dict of tensors, got a dict .* the keys epoch, 1$"),
        (lambda file: torch.save({"state_dict": {}}, file), "must hold a dict of tensors, got an empty dict$"),
        (lambda file: torch.save([1, 2], file), "must hold a dict of tensors, got list$"),
        (lambda file: file.write_bytes(b""), "no file of weights: it is empty$"),
        (lambda file: file.write_text("<!DOCTYPE html><html>"), "torch.save did not write it, .* with '<!DOCTYPE"),
        (lambda file: file.write_bytes(pickle.dumps([print], 4)), "must hold tensors and plain values only, got "),
        (lambda file: file.write_bytes(b"\x80\x02junk"), "no file of weights|must hold tensors and plain values only"),
        (lambda file: file.mkdir(), "is a folder, not a file of weights"),
    ],
    ids=["none", "empty_dict", "list", "empty", "web_page", "pickle", "junk", "folder"],
)  # fmt: skip
def test_files_that_hold_something_else(write, message, tmp_path):
    write(tmp_path / "b.pth")
    with pytest.raises((ValueError, FileNotFoundError), match=rf"b.pth.*{message}") as caught:
        load_pretrained_backbone(make_model(), tmp_path / "b.pth")
    assert "arbitrary code" not in str(caught.value)  # torch's advice is to execute the file
