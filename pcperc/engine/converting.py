# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of other projects as ones that test.py, infer.py and train.py --load-from take."""

import re
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pcperc.convert import BEVFUSION_SOURCES, convert_bevfusion, convert_network, find_origin, spvnas_options
from pcperc.engine.checkpoint import CheckpointError, load_checkpoint, save_checkpoint, save_weights
from pcperc.engine.config import ConfigError, load_config, plain_config
from pcperc.engine.loading import open_checkpoint
from pcperc.engine.messages import say
from pcperc.models import SPVCNN, MinkUNet
from pcperc.models.bevfusion import BEVFusion
from pcperc.models.pretrained import read_weights
from pcperc.models.pvcnn import PVCNN, PVCNN2, FrustumPVCNN
from pcperc.registry import MODELS, resolve_type


@dataclass(frozen=True)
class ConvertOptions:
    """What the command line says; see tools/README.md."""

    config: Path
    file: Path
    source: str | None = None  # None: told by the names in the file
    out: Path | None = None  # None: the file's name with the new ending
    target: str = "safetensors"


def convert_checkpoint(options: ConvertOptions) -> None:
    """Write the weights of ``file`` into the model of ``config``, as a .safetensors file that carries the config.

    A specialised SPVNAS network says by its shapes what its widths are: they replace those of the config's SPVCNN.

    A checkpoint of our own (``source`` "pcperc") is written in the other form of file, with its own config. It is known
    by the config that it carries.

    Raises:
        ConfigError: no such config, or a model that holds none or several of the networks of the source; another source
            for a checkpoint of ours.
        FileNotFoundError, ValueError: no such file, not one of weights, or of another network: keys are named. Of an
            unknown one the message lists what is known and the nearest.
        FileExistsError: the file to be written is there, and ``out`` does not name it.
    """
    if not options.file.exists():
        raise FileNotFoundError(f"{options.file}: no such file")
    source = options.source
    if source != "pcperc" and _is_our_own(options.file):
        if source is not None:
            raise ConfigError(f"--from {source}: {options.file} is of pcperc; --from pcperc, or none, takes it")
        source = "pcperc"
    out = _path_to_write(options)
    if source == "pcperc":
        opened = open_checkpoint(options.file, options.config, compared=("model",))
        _write(opened.state_dict, out, opened.meta)
        say(f"{out}: {len(opened.state_dict)} tensors of {options.file}")
        return
    cfg = load_config(options.config)
    state = read_weights(options.file)
    source = source or _origin(options.file, state)
    subnet = spvnas_options(state) if source == "spvnas" else {}
    if subnet:
        _set_widths(cfg["model"], subnet)
    model = MODELS.build(cfg["model"])
    prefix, network = _only_network(model, options, source)
    convert = convert_bevfusion if source in BEVFUSION_SOURCES else convert_network
    try:
        converted = convert(state, source=source, model=network)
    except ValueError as error:
        raise ValueError(f"{options.file}: {_hint(state, source)}{_without_name(error)}") from error
    weights = {**model.state_dict(), **{prefix + name: value for name, value in converted.items()}}
    meta = {
        "config": plain_config(cfg),
        "config_file": str(options.config),
        "converted_from": {"source": source, "file": options.file.name},
    }
    _write(weights, out, meta)
    say(f"{out}: {len(converted)} tensors of {options.file}, {sum(map(_size, network.parameters())):,} weights")


def _write(state_dict: dict, path: Path, meta: dict) -> None:
    if path.suffix == ".safetensors":
        save_weights(state_dict, path, meta=meta)
    else:
        save_checkpoint({"state_dict": state_dict, "meta": meta}, path)


def _path_to_write(options: ConvertOptions) -> Path:
    """Return the file that is to be written; one that nobody named must not be there."""
    ending = f".{options.target}"
    if options.out is None:
        out = options.file.with_suffix(ending)
        if out.resolve() == options.file.resolve():
            other = "pth" if options.target == "safetensors" else "safetensors"
            raise ValueError(f"{options.file}: is a {ending} file already; give --out, or --to {other}")
        if out.exists():
            raise FileExistsError(f"{out}: is there already; move it away, or name another by --out")
        return out
    if options.out.suffix != ending:
        raise ValueError(f"convert_checkpoint: --out must be a {ending} file, got {options.out}")
    if options.out.resolve() == options.file.resolve():
        raise ValueError(f"convert_checkpoint: --out must be another file than {options.file}")
    return options.out


def _is_our_own(file: Path) -> bool:
    """Whether a file is a checkpoint of ours, which carries its config."""
    try:
        return isinstance(load_checkpoint(file)["meta"].get("config"), dict)
    except CheckpointError:
        return False


def _origin(file: Path, state: dict) -> str:
    try:
        return find_origin(state)
    except ValueError as error:
        raise ValueError(f"{file}: {_without_name(error)}") from error


def _hint(state: dict, source: str) -> str:
    """Return what the names say of the origin, where that is not the source that was asked for."""
    try:
        found = find_origin(state)
    except ValueError as error:
        return f"{_without_name(error)}; as {source}: "
    return "" if found == source else f"is not of {source}, by its names it is of {found}; as {source}: "


def _without_name(error: ValueError) -> str:
    """Return a message without the function's name before it, and without what is for callers of it."""
    text = str(error).removesuffix("; rename= maps names that differ")
    return re.sub(r"^(find_origin|convert_\w+): ", "", text)


def _size(parameter: nn.Parameter) -> int:
    return parameter.numel()


def _only_network(model: nn.Module, options: ConvertOptions, source: str) -> tuple[str, nn.Module]:
    """The network to be filled, and what stands before its names; of networks in one another the outermost."""
    kinds = _NETWORKS[source]
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, kinds) and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    if len(found) != 1:
        told = "" if options.source else ", by its names,"
        wanted = f"{' or '.join(kind.__name__ for kind in kinds)}, got {len(found)}"
        raise ConfigError(f"{options.config}: model must hold one {wanted}; {options.file}{told} is of {source}")
    ((name, network),) = found.items()
    return (f"{name}." if name else ""), network


_NETWORKS = {
    "bevfusion": (BEVFusion,),
    "mmdet3d": (BEVFusion,),
    "spvnas": (MinkUNet, SPVCNN),
    "torchsparse": (MinkUNet, SPVCNN),
    "pvcnn": (PVCNN, PVCNN2, FrustumPVCNN),
}


def _set_widths(part: object, subnet: dict) -> None:
    """Put the widths into every SPVCNN of a model's config."""
    values = part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else ()
    if isinstance(part, dict) and "type" in part and resolve_type(part["type"], MODELS) is SPVCNN:
        part.pop("width", None)
        part.update(subnet)
    for value in values:
        _set_widths(value, subnet)
