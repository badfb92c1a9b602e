# SPDX-License-Identifier: Apache-2.0
"""Pretrained Swin weights in the key names of mmdet, torchvision, timm and the paper's own code.

The layouts differ in names and in the order in which patch merging puts its four tokens side by side; the bias tables
of relative positions are the same in all of them.
"""

import logging
import re
import warnings
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from pcperc.models.bevfusion.swin import SwinTransformer
from pcperc.models.swin_layouts import LAYOUTS

logger = logging.getLogger(__name__)

# Where a checkpoint of a whole detector keeps its image backbone, and what wrappers put before every key.
_PREFIXES = ("encoders.camera.backbone.", "camera.backbone.", "img_backbone.", "backbone.", "module.", "model.")
_STATE_KEYS = ("state_dict", "model", "state_dict_ema", "model_ema")
_DERIVED = re.compile(r"(relative_position_index|attn_mask|relative_coords_table)$")


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file or of a torch checkpoint, without running anything that is in it.

    Args:
        file: .safetensors, or what torch.save wrote: a dict of tensors, or a dict that holds one under ``state_dict``
            or ``model``. What else such a dict holds, as MMEngine's logs and configs, is left out and not built.

    Returns:
        Name to tensor on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file cannot be read as weights; the message names it.
    """
    file = Path(file)
    if not file.is_file():
        what = "is a folder, not a file of weights" if file.is_dir() else "no such file"
        raise FileNotFoundError(f"read_weights: {file}: {what}")
    damaged = f"read_weights: {file} is truncated or no file of weights"
    if file.suffix != ".safetensors":
        _check_saved_by_torch(file, damaged)
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the protocol of a pickle
            state = _load_plain(file)
    except KeyError as error:  # torch's reader of pickles looks up what is no pickle; the key says nothing
        raise ValueError(f"{damaged}: it is no pickle") from error
    except UnpicklingError as error:  # of anything but tensors and plain values; torch's advice is to execute it
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ValueError(_built_of(file, named[1] if named else "others")) from error
    except Exception as error:  # a damaged file ends torch's reader anywhere
        reason = str(error).strip() or type(error).__name__
        raise ValueError(f"{damaged}: {reason.splitlines()[0]}") from error
    for key in _STATE_KEYS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
            break
    for value in (state, *(state.values() if isinstance(state, dict) else ())):
        if isinstance(value, _StandIn):
            raise ValueError(_built_of(file, value.stands_for))
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, dict) else {}
    if not tensors:
        got = type(state).__name__
        if isinstance(state, dict):
            got = f"a dict without any, of the keys {_first(state)}" if state else "an empty dict"
        raise ValueError(f"read_weights: {file} must hold a dict of tensors, got {got}")
    return tensors


class _StandIn:
    """What stands where a file has an object that is no tensor and no plain value: it takes all and does nothing."""

    stands_for = ""

    def __new__(cls, *args: object, **kwargs: object) -> "_StandIn":
        return object.__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass


def _load_plain(file: Path) -> Any:
    """Read what torch.save wrote; objects of other classes are stand-ins, so that nothing of the file is executed."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file) if zipfile.is_zipfile(file) else []
        if not names:
            raise
    stand_ins = [(type("StandIn", (_StandIn,), {"stands_for": name}), name) for name in names]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(file, map_location="cpu", weights_only=True)


def _built_of(file: Path, what: str) -> str:
    return (
        f"read_weights: {file} must hold tensors and plain values only, got {what}, which is not executed; "
        "where you trust the file, save its state_dict alone"
    )


def _check_saved_by_torch(file: Path, damaged: str) -> None:
    """Refuse what is no archive and no pickle, such as the web page that a download gave instead of the file."""
    with open(file, "rb") as opened:
        start = opened.read(24)
    if not start:
        raise ValueError(f"{damaged}: it is empty")
    if start[:1].isascii() and not start.startswith(b"PK"):
        raise ValueError(f"{damaged}: torch.save did not write it, it begins with {start.decode('latin-1')!r}")


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
    layout = next((layout for layout in LAYOUTS if layout.known_by(set(weights))), None)
    if layout is None:
        raise ValueError(
            "convert_swin_weights: weights must have the key names of pcperc, "
            f"{', '.join(known.name for known in LAYOUTS)}, got {_first(weights)}"
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
    return (", ".join(map(str, keys[:count])) or "none") + more
