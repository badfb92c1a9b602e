# SPDX-License-Identifier: Apache-2.0
"""Pretrained Swin weights in the key names of mmdet, torchvision, timm and the paper's own code.

The layouts differ in names and in the order in which patch merging puts its four tokens side by side; the bias tables
of relative positions are the same in all of them.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pcperc.models.bevfusion.swin import SwinTransformer

logger = logging.getLogger(__name__)

# Where a checkpoint of a whole detector keeps its image backbone, and what wrappers put before every key.
_PREFIXES = ("encoders.camera.backbone.", "camera.backbone.", "img_backbone.", "backbone.", "module.", "model.")
_STATE_KEYS = ("state_dict", "model", "state_dict_ema", "model_ema")

_BLOCK = r"(?P<block>\d+)"
_SHARED_IN_BLOCK = r"(?P<rest>norm[12]\.(?:weight|bias))"
_ATTENTION = r"(?P<rest>(?:qkv|proj)\.(?:weight|bias)|relative_position_bias_table)"
_AFFINE = r"(?P<rest>weight|bias)"
_MERGING = r"(?P<rest>norm\.(?:weight|bias)|reduction\.weight)"
_DERIVED = re.compile(r"(relative_position_index|attn_mask|relative_coords_table)$")

# (pattern, our name); a pattern matches the whole key. Our name None: a classifier, left out.
_Rules = list[tuple[str, str | None]]


def _stage_rules(stage: str, attention: str, first: str, second: str) -> _Rules:
    """Rules of a block, from the prefix of blocks and the names of the attention and the perceptron's two layers."""
    return [
        (rf"{stage}{_BLOCK}\.{_SHARED_IN_BLOCK}", "stages.{stage}.blocks.{block}.{rest}"),
        (rf"{stage}{_BLOCK}\.{attention}\.{_ATTENTION}", "stages.{stage}.blocks.{block}.attn.{rest}"),
        (rf"{stage}{_BLOCK}\.{first}\.{_AFFINE}", "stages.{stage}.blocks.{block}.mlp.0.{rest}"),
        (rf"{stage}{_BLOCK}\.{second}\.{_AFFINE}", "stages.{stage}.blocks.{block}.mlp.2.{rest}"),
    ]


_MMDET: _Rules = [
    (rf"patch_embed\.projection\.{_AFFINE}", "patch_embed.proj.{rest}"),
    (rf"patch_embed\.norm\.{_AFFINE}", "patch_embed.norm.{rest}"),
    *_stage_rules(r"stages\.(?P<stage>\d+)\.blocks\.", r"attn\.w_msa", r"ffn\.layers\.0\.0", r"ffn\.layers\.1"),
    (rf"stages\.(?P<stage>\d+)\.downsample\.{_MERGING}", "stages.{stage}.downsample.{rest}"),
    (rf"norm(?P<stage>\d+)\.{_AFFINE}", "out_norms.{stage}.{rest}"),
]
_TORCHVISION: _Rules = [
    (rf"features\.0\.0\.{_AFFINE}", "patch_embed.proj.{rest}"),
    (rf"features\.0\.2\.{_AFFINE}", "patch_embed.norm.{rest}"),
    *_stage_rules(r"features\.(?P<odd>\d*[13579])\.", "attn", r"mlp\.0", r"mlp\.3"),
    (rf"features\.(?P<even>\d*[02468])\.{_MERGING}", "stages.{stage}.downsample.{rest}"),
    (rf"norm\.{_AFFINE}", "out_norms.{last}.{rest}"),
    (r"head\..*", None),
]
# The paper's own code (Microsoft), and timm before 0.9: merging closes a stage.
_ORIGINAL: _Rules = [
    (rf"patch_embed\.proj\.{_AFFINE}", "patch_embed.proj.{rest}"),
    (rf"patch_embed\.norm\.{_AFFINE}", "patch_embed.norm.{rest}"),
    *_stage_rules(r"layers\.(?P<stage>\d+)\.blocks\.", "attn", r"mlp\.fc1", r"mlp\.fc2"),
    (rf"layers\.(?P<stage>\d+)\.downsample\.{_MERGING}", "stages.{stage}.downsample.{rest}"),
    (rf"norm(?P<stage>\d+)\.{_AFFINE}", "out_norms.{stage}.{rest}"),
    (rf"norm\.{_AFFINE}", "out_norms.{last}.{rest}"),
    (r"head\..*", None),
]
# timm since 0.9: merging opens the next stage.
_TIMM: _Rules = [
    (pattern.replace("<stage>", "<next>") if "downsample" in pattern else pattern, name) for pattern, name in _ORIGINAL
]


def _unfold_to_concatenation(key: str, value: Tensor) -> Tensor:
    """Reorder patch merging of mmdet, whose inputs are numbered (channel, row, column), to (column, row, channel)."""
    if ".downsample." not in key:
        return value
    split = value.unflatten(-1, (-1, 2, 2))  # (..., C, row, column)
    return split.movedim((-1, -2, -3), (-3, -2, -1)).flatten(-3)


class _Layout:
    """Key names of one library: how to recognise them, and our name for each."""

    def __init__(
        self, name: str, rules: _Rules, known_by: Callable[[set[str]], bool], convert=lambda key, value: value
    ):
        self.name, self.known_by, self.convert = name, known_by, convert
        self.rules = [(re.compile(pattern), target) for pattern, target in rules]

    def rename(self, key: str, last: int) -> str | None:
        """Our name for ``key``, None for a classifier; KeyError where no rule fits."""
        for pattern, target in self.rules:
            if match := pattern.fullmatch(key):
                if target is None:
                    return None
                parts = match.groupdict()
                if "odd" in parts:  # torchvision numbers stages and mergings in one list: 1 is stage 0, 2 its merging
                    parts["stage"] = (int(parts["odd"]) - 1) // 2
                elif "even" in parts:
                    parts["stage"] = int(parts["even"]) // 2 - 1
                elif "next" in parts:
                    parts["stage"] = int(parts["next"]) - 1
                return target.format(**parts, last=last)
        raise KeyError(key)


_LAYOUTS = (
    _Layout("mmdet", _MMDET, lambda keys: "patch_embed.projection.weight" in keys, _unfold_to_concatenation),
    _Layout("torchvision", _TORCHVISION, lambda keys: "features.0.0.weight" in keys),
    _Layout(
        "timm",
        _TIMM,
        lambda keys: "layers.0.blocks.0.norm1.weight" in keys and "layers.0.downsample.reduction.weight" not in keys,
    ),
    _Layout("original", _ORIGINAL, lambda keys: "layers.0.downsample.reduction.weight" in keys),
)


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file or of a torch checkpoint, without running anything that is in it.

    Args:
        file: .safetensors, or what torch.save wrote: a dict of tensors, or a dict that holds one under ``state_dict``
            or ``model``.

    Returns:
        Name to tensor on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file cannot be read as weights; the message names it.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"read_weights: no such file: {file}")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except KeyError as error:  # torch's reader of pickles looks up what is no pickle; the key says nothing
        raise ValueError(f"read_weights: {file} is truncated or no file of weights: it is no pickle") from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise ValueError(f"read_weights: {file} is truncated or no file of weights: {error}") from error
    except Exception as error:  # torch raises pickle.UnpicklingError for anything but tensors and plain values
        reason = str(error).splitlines()[0]
        raise ValueError(f"read_weights: {file} must hold tensors and plain values only: {reason}") from error
    for key in _STATE_KEYS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
            break
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, dict) else {}
    if not tensors:
        raise ValueError(f"read_weights: {file} must hold a dict of tensors, got {type(state).__name__}")
    return tensors


def convert_swin_weights(weights: dict[str, Tensor], *, last_stage: int) -> tuple[str, dict[str, Tensor]]:
    """Rename and reorder Swin weights of another library to those of ``SwinTransformer``.

    Args:
        weights: name to tensor, of the backbone alone or of a detector that holds it.
        last_stage: stage to whose output norm a single final norm belongs.

    Returns:
        Name of the layout, and the weights in our names. Classifier heads and buffers that follow from the
        architecture are left out; of a detector, so is everything but its image backbone.

    Raises:
        ValueError: an unknown layout, or a key that the layout does not know.
    """
    weights = _strip_prefixes(weights)
    if "patch_embed.proj.weight" in weights and any(key.startswith("stages.") for key in weights):
        return "pcperc", weights
    layout = next((layout for layout in _LAYOUTS if layout.known_by(set(weights))), None)
    if layout is None:
        raise ValueError(
            "convert_swin_weights: weights must have the key names of pcperc, "
            f"{', '.join(known.name for known in _LAYOUTS)}, got {_first(weights)}"
        )
    converted, unknown = {}, []
    for key, value in weights.items():
        if _DERIVED.search(key):
            continue
        try:
            name = layout.rename(key, last_stage)
        except KeyError:
            unknown.append(key)
            continue
        if name is not None:
            converted[name] = layout.convert(name, value)
    if unknown:
        raise ValueError(f"convert_swin_weights: the {layout.name} layout has no keys such as {_first(unknown)}")
    return layout.name, converted


def load_pretrained_backbone(model: SwinTransformer, file: str | Path) -> str:
    """Load pretrained Swin weights into ``model``, whichever library wrote them.

    Args:
        model: the backbone; changed only where everything fits.
        file: .safetensors or a torch checkpoint, see ``read_weights``; of the backbone alone or of a detector.

    Returns:
        Name of the layout that was found: pcperc, mmdet, torchvision, timm or original.

    Raises:
        FileNotFoundError, ValueError: of ``read_weights`` and ``convert_swin_weights``; weights of another size or
            depth; weights that lack anything but the norms of the outputs, which then keep their values.
    """
    own = model.state_dict()
    last = max(model.out_stages)
    try:
        layout, weights = convert_swin_weights(read_weights(file), last_stage=last)
    except ValueError as error:
        raise ValueError(f"load_pretrained_backbone: {file}: {error}") from error
    # Norms of stages that this model does not return belong to the checkpoint's choice of outputs, not to its body.
    weights = {k: v for k, v in weights.items() if k in own or not k.startswith("out_norms.")}
    missing = [key for key in own if key not in weights and not key.startswith("out_norms.")]
    extra = [key for key in weights if key not in own]
    if missing or extra:
        raise ValueError(
            f"load_pretrained_backbone: {file}: weights must be those of a Swin of this depth; "
            f"missing {_first(missing)}, left over {_first(extra)}"
        )
    for key, value in weights.items():
        if value.shape != own[key].shape:
            raise ValueError(
                f"load_pretrained_backbone: {file}: {key} must be {tuple(own[key].shape)}, got {tuple(value.shape)}"
            )
    model.load_state_dict(weights, strict=False)
    kept = [key for key in own if key not in weights]
    logger.info("%s: %d tensors in the %s layout; initial values kept: %s", file, len(weights), layout, _first(kept))
    return layout


def _strip_prefixes(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Descend into the part of a checkpoint that holds the image backbone."""
    while prefix := next((p for p in _PREFIXES if any(key.startswith(p) for key in weights)), None):
        weights = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    return weights


def _first(keys, count: int = 4) -> str:
    """The first few of the keys, for a message."""
    keys = list(keys)
    more = f" and {len(keys) - count} more" if len(keys) > count else ""
    return (", ".join(keys[:count]) or "none") + more
