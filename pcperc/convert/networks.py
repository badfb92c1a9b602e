# SPDX-License-Identifier: Apache-2.0
"""Whole segmentation networks of other projects, by the names that their modules have there."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from pcperc.convert.pvcnn import pvcnn_name, pvcnn_values
from pcperc.convert.state_dict import convert_state_dict


def convert_network(state: Mapping[str, Tensor], *, source: str, model: nn.Module) -> dict[str, Tensor]:
    """Make of a published network's ``state_dict`` one for our network.

    - ``spvnas``: MinkUNet, SPVCNN, specialised SPVNAS networks and the super network (for ``SPVNAS.net``) of
      mit-han-lab/spvnas. A MinkUNet there carries point_transforms that nothing uses: they are left out. A specialised
      network keeps the classifier of the super network, of whose inputs it uses the first: the others are left out.
      These networks read quantized points: build SPVCNN with ``quantized=True``.
    - ``torchsparse``: torchsparse.backbones.SparseResUNet42, which has no classifier.
    - ``pvcnn``: PVCNN, PVCNN++, F-PVCNN (without its size templates) and PointNet of mit-han-lab/pvcnn, for the
      networks of ``pcperc.models.pvcnn`` of the same name. Its PointNet++ reads no coordinates and is another network.

    Args:
        state: name to tensor; a leading ``module.`` is dropped.
        source: one of :data:`NETWORKS`.
        model: the network that is to load the result; it is only looked at.
    Returns:
        A dict with exactly the keys of ``model.state_dict()``.
    Raises:
        TypeError, ValueError: an unknown source, and as :func:`convert_state_dict`: every key is accounted for.
    """
    rename = _rename(source)
    own = model.state_dict()
    has_points = any(name.startswith("point_transforms.") for name in own)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if source == "pvcnn":
        state = pvcnn_values(state, model)
    for key, value in state.items():
        if isinstance(value, Tensor) and source == "spvnas" and key.endswith("classifier.linear.weight"):
            state[key] = value[:, : own["classifier.weight"].shape[1]] if "classifier.weight" in own else value

    def our_name(key: str) -> str | None:
        name = rename(key)
        is_unused = source == "spvnas" and name is not None and name.startswith("point_transforms.") and not has_points
        return None if is_unused else name

    return convert_state_dict(state, source="torchsparse", model=model, rename=our_name)


def spvnas_options(state: Mapping[str, Tensor]) -> dict:
    """Read off the shapes of a specialised SPVNAS network which SPVCNN it is.

    Args:
        state: its ``state_dict`` in the names of mit-han-lab/spvnas.
    Returns:
        ``widths``, ``transitions``, ``inner_widths``, ``project_first`` for ``SPVCNN``; empty for other networks.
    Raises:
        ValueError: the state names stages down of SPVNAS, but not all of its layers.
    """
    if not any(key.removeprefix("module.").startswith("downsample.") for key in state):
        return {}
    made = {_rename("spvnas")(key): value.shape[-1] for key, value in state.items() if key.endswith(".kernel")}
    stages = [(f"down_stages.{i}", "down") for i in range(4)] + [(f"up_stages.{i}", "up") for i in range(4)]
    try:
        widths, transitions, inner_widths = [made["stem.1.conv.weight"]], [], []
        for stage, step in stages:
            blocks = sum(f"{stage}.blocks.{block}.block1.conv.weight" in made for block in range(len(made)))
            transitions.append(made[f"{stage}.{step}.conv.weight"])
            widths.append(made[f"{stage}.blocks.0.block2.conv.weight"])
            inner_widths.append([made[f"{stage}.blocks.{block}.block1.conv.weight"] for block in range(blocks)])
    except KeyError as error:
        raise ValueError(f"spvnas_options: state must have all layers of SPVNAS, got none for {error}") from error
    return dict(widths=widths, transitions=transitions, inner_widths=inner_widths, project_first=True)


def _rename(source: str) -> Callable[[str], str | None]:
    if source not in NETWORKS:
        raise ValueError(f"convert_network: source must be one of {', '.join(NETWORKS)}, got {source!r}")

    def rename(key: str) -> str | None:
        try:
            return _RULES[source](key.removeprefix("module."))
        except ValueError:  # a name where a number belongs
            return key

    return rename


def _from_spvnas(key: str) -> str:
    """Their name to ours; one that no rule knows stays, and is then left over."""
    parts = [part for part in key.split(".") if part != "layers"]  # of the super network alone
    leaf = parts[-1]
    match parts:
        case ["stem", n, *_]:
            return f"stem.{int(n) // 3}.{_in_block(leaf)}"
        case [("stage1" | "stage2" | "stage3" | "stage4") as stage, "0", "net", *_]:
            return f"down_stages.{int(stage[-1]) - 1}.down.{_in_block(leaf)}"
        case [("stage1" | "stage2" | "stage3" | "stage4") as stage, n, part, at, *_]:
            return f"down_stages.{int(stage[-1]) - 1}.blocks.{int(n) - 1}.{_block(part, at)}.{_in_block(leaf)}"
        case [("up1" | "up2" | "up3" | "up4") as stage, "0", "net", *_]:
            return f"up_stages.{int(stage[-1]) - 1}.up.{_in_block(leaf)}"
        case [("up1" | "up2" | "up3" | "up4") as stage, "1", n, part, at, *_]:
            return f"up_stages.{int(stage[-1]) - 1}.blocks.{n}.{_block(part, at)}.{_in_block(leaf)}"
        case [("downsample" | "upsample") as side, i, "transition", "net", *_]:
            stage, step = ("down_stages", "down") if side == "downsample" else ("up_stages", "up")
            return f"{stage}.{i}.{step}.{_in_block(leaf)}"
        case [("downsample" | "upsample") as side, i, "feature", n, "downsample", "net", *_]:
            return f"{side.removesuffix('sample')}_stages.{i}.blocks.{n}.shortcut.{_in_block(leaf)}"
        case [("downsample" | "upsample") as side, i, "feature", n, "net", at, "net", *_]:
            return f"{side.removesuffix('sample')}_stages.{i}.blocks.{n}.block{int(at) + 1}.{_in_block(leaf)}"
        case ["point_transforms", i, "net", ("conv" | "bn") as part, *_]:
            return f"point_transforms.{i}.{int(part == 'bn')}.{leaf}"
        case ["point_transforms", i, n, *_]:
            return f"point_transforms.{i}.{n}.{leaf}"
        case ["classifier", _, _]:
            return f"classifier.{leaf}"
    return key


def _from_torchsparse(key: str) -> str:
    parts = key.split(".")
    leaf = parts[-1]
    match parts:
        case ["stem", n, *_]:
            return f"stem.{int(n) // 3}.{_in_block(leaf)}"
        case ["encoders", i, "0", *_]:
            return f"down_stages.{i}.down.{_in_block(leaf)}"
        case ["encoders", i, n, part, at, *_]:
            return f"down_stages.{i}.blocks.{int(n) - 1}.{_block(part, at)}.{_in_block(leaf)}"
        case ["decoders", i, "upsample", *_]:
            return f"up_stages.{i}.up.{_in_block(leaf)}"
        case ["decoders", i, "fuse", n, part, at, *_]:
            return f"up_stages.{i}.blocks.{n}.{_block(part, at)}.{_in_block(leaf)}"
    return key


def _block(part: str, at: str) -> str:
    """Their residual block is a Sequential of convolution, norm, ReLU, convolution, norm, beside its shortcut."""
    return "shortcut" if part in ("downsample", "shortcut") else f"block{int(at) // 3 + 1}"


def _in_block(leaf: str) -> str:
    return "conv.weight" if leaf == "kernel" else f"norm.{leaf}"


_RULES = {"spvnas": _from_spvnas, "torchsparse": _from_torchsparse, "pvcnn": pvcnn_name}
NETWORKS = tuple(_RULES)
