# SPDX-License-Identifier: Apache-2.0
"""Published networks by their key names: nothing is left over, and every layer has the values it had there."""

import re

import numpy as np
import pytest
import torch

from pcperc.convert import convert_network, spvnas_options
from pcperc.engine.checkpoint import load_checkpoint
from pcperc.engine.loading import build_model, open_checkpoint
from pcperc.engine.messages import run_tool
from pcperc.models import SPVCNN, SPVNAS, MinkUNet
from pcperc.models.spvnas import SearchSpace
from tests.sparse.test_point_tensor import random_points
from tests.test_tools import tool

WIDTHS = (4, 5, 6, 7, 8, 9, 6, 5, 4)
CLASSES = 3


def kernel(taps, inputs, outputs):
    return torch.randn(inputs, outputs) if taps == 1 else torch.randn(taps, inputs, outputs)


def norm(key, channels):
    values = {"weight": torch.rand(channels), "bias": torch.rand(channels), "running_mean": torch.rand(channels)}
    values |= {"running_var": torch.rand(channels), "num_batches_tracked": torch.tensor(7)}
    return {f"{key}.{name}": value for name, value in values.items()}


def unit(conv, bn, taps, inputs, outputs):
    """A convolution and its batch norm under two keys."""
    return {f"{conv}.kernel": kernel(taps, inputs, outputs), **norm(bn, outputs)}


def stem():
    return unit("stem.0", "stem.1", 27, 3, WIDTHS[0]) | unit("stem.3", "stem.4", 27, WIDTHS[0], WIDTHS[0])


def plain_residual(key, shortcut, main, inputs, outputs):
    state = unit(f"{key}.{main}.0", f"{key}.{main}.1", 27, inputs, outputs)
    state |= unit(f"{key}.{main}.3", f"{key}.{main}.4", 27, outputs, outputs)
    if inputs != outputs:
        state |= unit(f"{key}.{shortcut}.0", f"{key}.{shortcut}.1", 1, inputs, outputs)
    return state


def plain_stages(down, up, main, shortcut):
    """Stages whose names ``down(i)``, ``up(i)`` give: the step, the prefix of blocks and their first number."""
    state = {}
    for i in range(4):
        step, blocks, first = down(i)
        state |= unit(f"{step}.0", f"{step}.1", 8, WIDTHS[i], WIDTHS[i])
        for j, inputs in enumerate((WIDTHS[i], WIDTHS[i + 1])):
            state |= plain_residual(f"{blocks}.{first + j}", shortcut, main, inputs, WIDTHS[i + 1])
        step, blocks, first = up(i)
        outputs = WIDTHS[i + 5]
        state |= unit(f"{step}.0", f"{step}.1", 8, WIDTHS[i + 4], outputs)
        for j, inputs in enumerate((outputs + WIDTHS[3 - i], outputs)):
            state |= plain_residual(f"{blocks}.{first + j}", shortcut, main, inputs, outputs)
    return state


def published_spvcnn():
    state = stem() | plain_stages(
        lambda i: (f"stage{i + 1}.0.net", f"stage{i + 1}", 1),
        lambda i: (f"up{i + 1}.0.net", f"up{i + 1}.1", 0),
        "net",
        "downsample",
    )
    for i, (a, b) in enumerate(((0, 4), (4, 6), (6, 8))):
        state |= {f"point_transforms.{i}.0.weight": torch.randn(WIDTHS[b], WIDTHS[a])}
        state |= {f"point_transforms.{i}.0.bias": torch.randn(WIDTHS[b]), **norm(f"point_transforms.{i}.1", WIDTHS[b])}
    return state | {"classifier.0.weight": torch.randn(CLASSES, WIDTHS[8]), "classifier.0.bias": torch.randn(CLASSES)}


def published_torchsparse():
    return stem() | plain_stages(
        lambda i: (f"encoders.{i}.0", f"encoders.{i}", 1),
        lambda i: (f"decoders.{i}.upsample", f"decoders.{i}.fuse", 0),
        "main",
        "shortcut",
    )


def published_spvnas(subnet, *, is_super=False, largest_top=None):
    """The names of a specialised network, or with ``layers``, ``bn.bn`` and ``linear`` those of the super network."""
    layers, bn, linear = (".layers", "bn.bn", "conv.linear") if is_super else ("", "bn", "conv")

    def block(key, taps, inputs, outputs):
        return unit(f"{key}.net.conv", f"{key}.net.{bn}", taps, inputs, outputs)

    widths = subnet["widths"]
    state = unit("stem.0", "stem.1", 27, 3, widths[0]) | unit("stem.3", "stem.4", 27, widths[0], widths[0])
    for i in range(8):
        key, inputs = (f"downsample.{i}", widths[i]) if i < 4 else (f"upsample.{i - 4}", widths[i])
        state |= block(f"{key}.transition", 8, inputs, subnet["transitions"][i])
        inputs = subnet["transitions"][i] + (widths[7 - i] if i >= 4 else 0)
        for j, inner in enumerate(subnet["inner_widths"][i]):
            feature = f"{key}.feature{layers}.{j}"
            state |= block(f"{feature}.net{layers}.0", 27, inputs, inner)
            state |= block(f"{feature}.net{layers}.1", 27, inner, widths[i + 1])
            if j == 0:
                state |= block(f"{feature}.downsample", 1, inputs, widths[i + 1])
            inputs = widths[i + 1]
    for i, (a, b) in enumerate(((0, 4), (4, 6), (6, 8))):
        key = f"point_transforms.{i}.net"
        state |= {f"{key}.{linear}.weight": torch.randn(widths[b], widths[a])}
        state |= {f"{key}.{linear}.bias": torch.randn(widths[b]), **norm(f"{key}.{bn}", widths[b])}
    state |= {"classifier.linear.weight": torch.randn(CLASSES, largest_top or widths[8])}
    return state | {"classifier.linear.bias": torch.randn(CLASSES)}


SUBNET = {
    "widths": [4, 5, 6, 7, 8, 9, 6, 5, 4],
    "transitions": [2, 3, 4, 5, 6, 7, 4, 3],
    "inner_widths": [[3, 2], [4], [2, 2], [5], [3], [6, 4], [2], [3, 4]],
    "project_first": True,
}


def layer_by_layer(network, path):
    """(our tensor, their key) for every layer in the order of ``forward``, walked through modules and not by names."""
    blocks = list(network.stem)
    for stage in (*network.down_stages, *network.up_stages):
        blocks.append(stage.down if hasattr(stage, "down") else stage.up)
        for residual in stage.blocks:
            blocks += [residual.block1, residual.block2]
            blocks += [] if residual.shortcut is None else [residual.shortcut]
    kernels = [key for key in path if key.endswith(".kernel")]
    assert len(kernels) == len(blocks)
    return zip(blocks, kernels, strict=True)


def in_our_layout(kernel):
    """x, y, z of a tap: x is fastest where there are 27, z where there are 8."""
    if kernel.ndim == 2:
        return kernel[None, None, None]
    side = round(len(kernel) ** (1 / 3))
    grid = np.empty((side, side, side), object)
    for tap in range(len(kernel)):
        a, b, c = tap // side**2, tap // side % side, tap % side
        grid[(c, b, a) if side == 3 else (a, b, c)] = kernel[tap]
    return torch.stack([torch.stack([torch.stack(list(row)) for row in plane]) for plane in grid])


CASES = {
    "minkunet": ("spvnas", published_spvcnn, lambda: MinkUNet(3, CLASSES, widths=WIDTHS)),
    "spvcnn": ("spvnas", published_spvcnn, lambda: SPVCNN(3, CLASSES, widths=WIDTHS)),
    "torchsparse": ("torchsparse", published_torchsparse, lambda: MinkUNet(3, widths=WIDTHS)),
    "subnet": ("spvnas", lambda: published_spvnas(SUBNET, largest_top=9), lambda: SPVCNN(3, CLASSES, **SUBNET)),
    "super": (
        "spvnas",
        lambda: published_spvnas(LARGEST, is_super=True),
        lambda: SPVNAS(3, CLASSES, space=SPACE).net,
    ),
}
SPACE = SearchSpace((16,) * 9, (16,) * 9)
LARGEST = SPACE.largest().options


@pytest.mark.parametrize("name", CASES)
def test_no_key_is_left_over_and_every_layer_has_its_values(name):
    source, make_state, make_model = CASES[name]
    state, model = make_state(), make_model()
    wrapped = {f"module.{key}": value for key, value in state.items()}
    model.load_state_dict(convert_network(wrapped, source=source, model=model), strict=True)
    used = set()

    def same(ours, key):
        used.add(key)
        expected = state[key]
        if key == "classifier.linear.weight":
            expected = expected[:, : ours.shape[1]]
        assert torch.equal(ours.detach(), expected), key

    by_place = sorted_as_run(state, name)
    for block, key in layer_by_layer(model, by_place):
        used.add(key)
        assert torch.equal(block.conv.weight.detach(), in_our_layout(state[key])), key
        for part, value in block.norm.state_dict().items():
            same(value, f"{norm_of(key, name)}.{part}")
    for i, transform in enumerate(getattr(model, "point_transforms", ())):
        linear, bn = {"subnet": ("net.conv", "net.bn"), "super": ("net.conv.linear", "net.bn.bn")}.get(name, ("0", "1"))
        for part in ("weight", "bias"):
            same(getattr(transform[0], part), f"point_transforms.{i}.{linear}.{part}")
        for part, value in transform[1].state_dict().items():
            same(value, f"point_transforms.{i}.{bn}.{part}")
    if model.classifier is not None:
        classifier = "classifier.linear" if name in ("subnet", "super") else "classifier.0"
        for part in ("weight", "bias"):
            same(getattr(model.classifier, part), f"{classifier}.{part}")
    unused = set(state) - used
    assert unused == ({key for key in state if key.startswith("point_transforms")} if name == "minkunet" else set())


def norm_of(key, name):
    """The batch norm beside a convolution."""
    if name in ("subnet", "super"):
        if not key.startswith("stem"):
            return key.removesuffix("conv.kernel") + ("bn.bn" if name == "super" else "bn")
    prefix, number, _ = key.rsplit(".", 2)
    return f"{prefix}.{int(number) + 1}"


def sorted_as_run(state, name):
    """Kernels in the order stem, down, up: the states above are made stage by stage in another one."""
    is_up = ("up", "decoders")
    keys = [key for key in state if key.endswith(".kernel")]
    return [k for k in keys if not k.startswith(is_up)] + [k for k in keys if k.startswith(is_up)]


def test_what_a_specialised_network_is_is_read_off_its_shapes():
    assert spvnas_options(published_spvnas(SUBNET, largest_top=9)) == SUBNET
    assert spvnas_options(published_spvcnn()) == {}
    state = published_spvnas(SUBNET)
    del state["upsample.1.transition.net.conv.kernel"]
    with pytest.raises(ValueError, match=r"spvnas_options: state must have all layers .*up_stages\.1\.up"):
        spvnas_options(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("up1.0.net.0.kernel"), r"missing: up_stages\.0\.up\.conv\.weight; left over: none"),
        (lambda s: s.update({"stage5.0.net.0.kernel": torch.ones(1)}), r"left over: stage5\.0\.net\.0\.weight"),
        (lambda s: s.update({"stem.first.kernel": torch.ones(1)}), r"left over: stem\.first\.weight"),
        (lambda s: s.update({"stem.0.kernel": torch.ones(8, 3, 4)}), r"stem\.0\.kernel: .* must be \(27, in, out\)"),
        (lambda s: s.update({"classifier.0.bias": torch.ones(9)}), r"classifier\.0\.bias must become \(3,\)"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    state = published_spvcnn()
    change(state)
    with pytest.raises(ValueError, match=message):
        convert_network(state, source="spvnas", model=SPVCNN(3, CLASSES, widths=WIDTHS))
    with pytest.raises(
        ValueError, match="convert_network: source must be one of spvnas, torchsparse, pvcnn, got 'spconv2'"
    ):
        convert_network(state, source="spconv2", model=SPVCNN(3, CLASSES, widths=WIDTHS))


CONFIG = """
from pcperc.models import SPVCNN

model = dict(type=SPVCNN, in_channels=3, num_classes=3, {options}quantized=True)
"""


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["convert_checkpoint.py", *map(str, arguments)])
    return run_tool(tool("convert_checkpoint").main)


def test_the_tool_writes_what_the_other_tools_read(tmp_path, monkeypatch, capsys):
    state = published_spvnas(SUBNET, largest_top=9)
    torch.save({"model": state, "epoch": 3}, tmp_path / "init")
    (tmp_path / "net.py").write_text(CONFIG.format(options=""))
    out = tmp_path / "net.safetensors"
    assert run(monkeypatch, tmp_path / "net.py", tmp_path / "init", "--from", "spvnas", "--out", out) == 0
    assert "net.safetensors: " in capsys.readouterr().out
    model = build_model(open_checkpoint(out), torch.device("cpu"))
    assert torch.equal(model.classifier.bias, state["classifier.linear.bias"]) and model.quantized
    expected = SPVCNN(3, 3, **SUBNET, quantized=True).eval()
    expected.load_state_dict(convert_network(state, source="spvnas", model=expected))
    points = random_points(dtype=torch.float32)
    assert torch.equal(model(points).feats, expected(points).feats)
    assert load_checkpoint(out)["meta"]["converted_from"] == {"source": "spvnas", "file": "init"}


@pytest.mark.parametrize(
    ("config", "file", "out", "message"),
    [
        ("net.py", "text", "a.safetensors", "text is truncated or no file of weights|text must hold tensors"),
        ("net.py", "junk", "a.safetensors", "junk is truncated or no file of weights: it is no pickle$"),
        ("net.py", "missing", "a.safetensors", "no such file: .*missing"),
        ("net.py", "init", "a.pth", "--out must be a .safetensors file, got .*a.pth"),
        ("net.py", "init", "a.safetensors", "init: .*missing: stem.0.norm.weight"),
        ("linear.py", "init", "a.safetensors", "linear.py: model must hold one MinkUNet or SPVCNN, got 0"),
    ],
)
def test_the_tool_says_in_one_line_what_is_wrong(config, file, out, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "net.py").write_text(CONFIG.format(options=f"widths={WIDTHS}, "))
    (tmp_path / "linear.py").write_text("from pcperc.models import OnVoxels\nfrom pcperc.nn import ReLU\n")
    with open(tmp_path / "linear.py", "a") as file_:
        file_.write("model = dict(type=OnVoxels, net=dict(type=ReLU))\n")
    (tmp_path / "text").write_text("no weights")
    (tmp_path / "junk").write_text("junk\n")
    torch.save({"stem.0.kernel": torch.zeros(27, 3, 4)}, tmp_path / "init")
    assert run(monkeypatch, tmp_path / config, tmp_path / file, "--from", "spvnas", "--out", tmp_path / out) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and re.search(message, error)
    assert not (tmp_path / out).exists()
