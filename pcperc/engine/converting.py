# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of other projects as ones that test.py, infer.py and train.py --load-from take."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pcperc.convert import convert_network, spvnas_options
from pcperc.engine.checkpoint import save_weights
from pcperc.engine.config import ConfigError, load_config, plain_config
from pcperc.engine.messages import say
from pcperc.models import SPVCNN, MinkUNet
from pcperc.models.pretrained import read_weights
from pcperc.models.pvcnn import PVCNN, PVCNN2, FrustumPVCNN
from pcperc.registry import MODELS, resolve_type


@dataclass(frozen=True)
class ConvertOptions:
    """What the command line says; see tools/README.md."""

    config: Path
    file: Path
    source: str
    out: Path


def convert_checkpoint(options: ConvertOptions) -> None:
    """Write the weights of ``file`` into the model of ``config``, as a .safetensors file that carries the config.

    A specialised SPVNAS network says by its shapes what its widths are: they replace those of the config's SPVCNN.

    Raises:
        ConfigError: no such config, or a model that holds none or several of the networks of the source.
        FileNotFoundError, ValueError: no such file, not one of weights, or of another network: keys are named.
    """
    if options.out.suffix != ".safetensors":
        raise ValueError(f"convert_checkpoint: --out must be a .safetensors file, got {options.out}")
    cfg = load_config(options.config)
    state = read_weights(options.file)
    subnet = spvnas_options(state) if options.source == "spvnas" else {}
    if subnet:
        _set_widths(cfg["model"], subnet)
    model = MODELS.build(cfg["model"])
    prefix, network = _only_network(model, options.config, _NETWORKS[options.source])
    try:
        converted = convert_network(state, source=options.source, model=network)
    except ValueError as error:
        raise ValueError(f"{options.file}: {error}") from error
    weights = {**model.state_dict(), **{prefix + name: value for name, value in converted.items()}}
    meta = {
        "config": plain_config(cfg),
        "config_file": str(options.config),
        "converted_from": {"source": options.source, "file": options.file.name},
    }
    save_weights(weights, options.out, meta=meta)
    say(f"{options.out}: {len(converted)} tensors of {options.file}, {sum(map(_size, network.parameters())):,} weights")


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
