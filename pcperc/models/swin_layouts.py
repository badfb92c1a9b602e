# SPDX-License-Identifier: Apache-2.0
"""Key names of Swin weights in mmdet, torchvision, timm and the paper's own code, and our name for each."""

import re
from collections.abc import Callable

from torch import Tensor

_BLOCK = r"(?P<block>\d+)"
_SHARED_IN_BLOCK = r"(?P<rest>norm[12]\.(?:weight|bias))"
_ATTENTION = r"(?P<rest>(?:qkv|proj)\.(?:weight|bias)|relative_position_bias_table)"
_AFFINE = r"(?P<rest>weight|bias)"
_MERGING = r"(?P<rest>norm\.(?:weight|bias)|reduction\.weight)"

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


LAYOUTS = (
    _Layout("mmdet", _MMDET, lambda keys: "patch_embed.projection.weight" in keys, _unfold_to_concatenation),
    _Layout("torchvision", _TORCHVISION, lambda keys: "features.0.0.weight" in keys),
    _Layout(
        "timm",
        _TIMM,
        lambda keys: "layers.0.blocks.0.norm1.weight" in keys and "layers.0.downsample.reduction.weight" not in keys,
    ),
    _Layout("original", _ORIGINAL, lambda keys: "layers.0.downsample.reduction.weight" in keys),
)
