# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of other projects as ones that test.py, infer.py and train.py --load-from take."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pcperc.convert import BEVFUSION_SOURCES, convert_bevfusion, convert_network, find_origin, spvnas_options
from pcperc.engine.checkpoint import save_checkpoint, save_weights
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

    A checkpoint of our own (``source`` "pcperc") is written in the other form of file, with its own config.

    Raises:
        ConfigError: no such config, or a model that holds none or several of the networks of the source.
        FileNotFoundError, ValueError: no such file, not one of weights, or of another network: keys are named. Of an
            unknown one the message lists what is known and the nearest.
    """
    out = options.out or options.file.with_suffix(f".{options.target}")
    if out.suffix != f".{options.target}":
        raise ValueError(f"convert_checkpoint: --out must be a .{options.target} file, got {out}")
    if out.resolve() == options.file.resolve():
        raise ValueError(f"convert_checkpoint: --out must be another file than {options.file}")
    if options.source == "pcperc":
        opened = open_checkpoint(options.file, options.config, compared=("model",))
        _write(opened.state_dict, out, opened.meta)
        say(f"{out}: {len(opened.state_dict)} tensors of {options.file}")
        return
    cfg = load_config(options.config)
    state = read_weights(options.file)
    source = options.source or _origin(options.file, state)
    subnet = spvnas_options(state) if source == "spvnas" else {}
    if subnet:
        _set_widths(cfg["model"], subnet)
    model = MODELS.build(cfg["model"])
    prefix, network = _only_network(model, options.config, _NETWORKS[source])
    convert = convert_bevfusion if source in BEVFUSION_SOURCES else convert_network
    try:
        converted = convert(state, source=source, model=network)
    except ValueError as error:
        raise ValueError(f"{options.file}: {error}{_hint(state, source)}") from error
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
        return f"; {_without_name(error)}"
    return "" if found == source else f"; by its names it is of {found}"


def _without_name(error: ValueError) -> str:
    return str(error).removeprefix("find_origin: ")


def _size(parameter: nn.Parameter) -> int:
    return parameter.numel()


def _only_network(model: nn.Module, config: Path, kinds: tuple[type, ...]) -> tuple[str, nn.Module]:
    """The network to be filled, and what stands before its names; of networks in one another the outermost."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, kinds) and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    if len(found) != 1:
        raise ConfigError(f"{config}: model must hold one {' or '.join(k.__name__ for k in kinds)}, got {len(found)}")
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
