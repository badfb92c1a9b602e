# SPDX-License-Identifier: Apache-2.0
"""Made-up weights of the published MinkUNet, SPVCNN and SPVNAS under their repositories' names."""

import torch

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
