# SPDX-License-Identifier: Apache-2.0
"""Published networks by their key names: nothing is left over, and every layer has the values it had there."""

import numpy as np
import pytest
import torch

from pcperc.convert import convert_network, spvnas_options
from pcperc.models import SPVCNN, SPVNAS, MinkUNet
from pcperc.models.spvnas import SearchSpace
from tests.spvnas_names import CLASSES, SUBNET, WIDTHS, published_spvcnn, published_spvnas, published_torchsparse


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
