# SPDX-License-Identifier: Apache-2.0
"""BEVFusion as mit-han-lab/bevfusion and mmdetection3d's project of that name published it, in our names.

Both lay the bird's-eye view out with x first, as we do, and voxels as (x, y, z): no kernel is turned. What differs
besides names: sparse weights are in spconv 1's layout or, where mmdetection3d found spconv 2, in that one's; mmdet's
Swin numbers the inputs of patch merging otherwise; and mit-han-lab's boxes are those of mmdetection3d before 1.0, with
the width first and a yaw that is clockwise from -y, so that the last layers of size and heading change their rows.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pcperc.convert.state_dict import convert_state_dict
from pcperc.models.pretrained import convert_swin_weights

BEVFUSION_SOURCES = ("bevfusion", "mmdet3d")
_BACKBONE = "encoders.camera.backbone."
_DERIVED = ("dx", "bx", "nx", "frustum")  # of the view transform: they follow from its bounds
# What mmdetection3d calls the parts, and a layer of the head's transformer.
_PARTS = {
    "img_backbone": "encoders.camera.backbone",
    "img_neck": "encoders.camera.neck",
    "view_transform": "encoders.camera.vtransform",
    "pts_middle_encoder": "encoders.lidar.backbone",
    "fusion_layer": "fuser",
    "pts_backbone": "decoder.backbone",
    "pts_neck": "decoder.neck",
    "bbox_head": "heads.object",
}
_IN_TRANSFORMER = {
    "self_attn.attn": "self_attn",
    "cross_attn.attn": "multihead_attn",
    "ffn.layers.0.0": "linear1",
    "ffn.layers.1": "linear2",
    "norms.0": "norm1",
    "norms.1": "norm2",
    "norms.2": "norm3",
}


def convert_bevfusion(state: Mapping[str, Tensor], *, source: str, model: nn.Module) -> dict[str, Tensor]:
    """Make of a published ``state_dict`` one for our BEVFusion of the same parts.

    Args:
        state: name to tensor; a leading ``module.`` is dropped.
        source: ``bevfusion`` (mit-han-lab, before its radar branch) or ``mmdet3d`` (its projects/BEVFusion).
        model: the BEVFusion that is to load the result; it is only looked at.
    Returns:
        A dict with exactly the keys of ``model.state_dict()``.
    Raises:
        TypeError, ValueError: an unknown source, and as :func:`convert_state_dict`: every key is accounted for.
    """
    if source not in BEVFUSION_SOURCES:
        raise ValueError(f"convert_bevfusion: source must be one of {', '.join(BEVFUSION_SOURCES)}, got {source!r}")
    state = {_mit_name(key.removeprefix("module."), source): value for key, value in state.items()}
    backbone = {key: value for key, value in state.items() if key.startswith(_BACKBONE)}
    if backbone:
        last = max(model.encoders["camera"].backbone.out_stages)
        _, converted = convert_swin_weights(backbone, last_stage=last)
        state = {key: value for key, value in state.items() if key not in backbone}
        state |= {_BACKBONE + key: value for key, value in converted.items()}
    result = convert_state_dict(state, source=_spconv_layout(state), model=model, rename=_our_name)
    return _turned_boxes(result) if source == "bevfusion" else result


def bevfusion_name(key: str) -> str | None:
    """mit-han-lab's name to ours, None for what follows from the config; one that no rule knows stays."""
    parts = key.split(".")
    match parts:
        case ["encoders", "camera", "vtransform", name, *_] if name in _DERIVED:
            return None
        case ["encoders", "camera", "vtransform", ("dtransform" | "depthnet" | "downsample") as part, n, leaf]:
            end = "" if (part, n) == ("depthnet", "6") else ".norm" if int(n) % 3 else ".conv"
            return f"encoders.camera.view_transform.{part}.{int(n) // 3}{end}.{leaf}"
        case ["encoders", "camera", "vtransform", *rest]:
            return f"encoders.camera.view_transform.{'.'.join(rest)}"
        case ["encoders", "lidar", "backbone", "encoder_layers", layer, n, *rest]:
            if rest[0] in ("0", "1"):  # convolution and norm of the step down, which we have among the blocks
                n, rest = int(n) + int(rest[0]), rest[1:]
            stage = int(layer.removeprefix("encoder_layer")) - 1
            return ".".join(["encoders.lidar.encoder_layers", str(stage), str(n), *rest])
        case ["encoders", "lidar", "backbone", *rest]:
            return f"encoders.lidar.{'.'.join(rest)}"
        case ["fuser", n, leaf]:
            return f"fuser.conv.{_conv_or_norm(n)}.{leaf}"
        case ["decoder", "backbone", "blocks", stage, n, leaf]:
            return f"decoder.backbone.blocks.{stage}.{int(n) // 3}.{_conv_or_norm(n)}.{leaf}"
        case ["decoder", "neck", "fuse", n, leaf]:
            return f"decoder.neck.fuse.{int(n) // 3}.{_conv_or_norm(n)}.{leaf}"
        case ["decoder", "neck", "upsample", n, leaf]:  # the first is the interpolation
            return f"decoder.neck.upsample.1.{_conv_or_norm(str(int(n) - 1))}.{leaf}"
        case ["decoder", "neck", "deblocks", "0", n, leaf]:  # no stride: a convolution, the others are transposed ones
            return f"decoder.neck.deblocks.0.{_conv_or_norm(n)}.{leaf}"
        case ["heads", "object", "decoder", n, ("self_posembed" | "cross_posembed") as part, _, *rest]:
            return f"heads.object.decoder.{n}.{part}.layers.{'.'.join(rest)}"
        case ["heads", "object", "prediction_heads", n, branch, "0", part, leaf]:
            return f"heads.object.prediction_heads.{n}.{branch}.{'01'[part == 'bn']}.{leaf}"
        case ["heads", "object", "prediction_heads", n, branch, "1", leaf]:
            return f"heads.object.prediction_heads.{n}.{branch}.3.{leaf}"
    return ".".join("norm" if part == "bn" else part for part in parts)


def _our_name(key: str) -> str | None:
    try:
        return bevfusion_name(key)
    except (ValueError, IndexError):  # a name where a number belongs
        return key


def _mit_name(key: str, source: str) -> str:
    """Translate a name of mmdetection3d into that of mit-han-lab; all others stay."""
    first, _, rest = key.partition(".")
    if source != "mmdet3d" or first not in _PARTS:
        return key
    key = f"{_PARTS[first]}.{rest}"
    for theirs, name in _IN_TRANSFORMER.items():
        if key.startswith("heads.object.decoder.") and f".{theirs}." in key:
            return key.replace(f".{theirs}.", f".{name}.", 1)
    return key


def _conv_or_norm(n: str) -> str:
    """The part of a ConvNormReLU that the n-th module of convolution, norm, ReLU, convolution, ... is."""
    return ("conv", "norm")[int(n) % 3]


def _spconv_layout(state: Mapping[str, Tensor]) -> str:
    """Tell by the first sparse layer, of 3 x 3 x 3 taps, which of spconv's layouts the weights are in."""
    first = state.get("encoders.lidar.backbone.conv_input.0.weight")
    return "spconv2" if first is not None and tuple(first.shape[:3]) != (3, 3, 3) else "spconv1"


def _turned_boxes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Reorder what the last layers of size and heading give: (w, l, h) to (l, w, h), their yaw to ours.

    Their yaw t is -yaw - pi / 2, so that sin(yaw) = -cos(t) and cos(yaw) = -sin(t): rows swapped and negated.
    """
    turned = dict(state)
    for key, value in state.items():
        parts = key.split(".")
        if parts[:2] != ["heads", "object"] or parts[-1] not in ("weight", "bias"):
            continue
        if (parts[2], parts[-2]) in (("prediction_heads", "3"), ("task_heads", "1")):
            if parts[4] == "dim":
                turned[key] = value[torch.tensor([1, 0, 2], device=value.device)]
            elif parts[4] == "rot":
                turned[key] = -value.flip(0)
    return turned
