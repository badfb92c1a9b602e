# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint back to the model and config that it was made with, through the registries alone."""

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from torch import nn

from pcperc import datasets, evaluation, models, transforms
from pcperc.engine.checkpoint import CheckpointError, finished_checkpoint, load_checkpoint
from pcperc.engine.config import (
    ConfigError,
    first_difference,
    load_config,
    plain_config,
    restored_config,
    with_data_root,
)
from pcperc.engine.subnet import without_subnet
from pcperc.engine.weights import load_weights
from pcperc.models.spvnas import SPVNAS
from pcperc.nn import fuse
from pcperc.registry import MODELS

# What must be the same in a checkpoint and in a config that is given beside it.
COMPARED_KEYS = ("model", "test_dataloader", "data_root", "data_version")

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint's weights and the config that it was made with."""

    path: Path
    state_dict: dict
    cfg: ConfigDict
    meta: dict

    @property
    def simulated(self) -> bool:
        """True where the training data was simulated."""
        return bool(self.meta.get("simulated"))


def open_checkpoint(
    path: str | Path,
    config: str | Path | None = None,
    *,
    data_root: str | Path | None = None,
    compared: tuple[str, ...] = COMPARED_KEYS,
) -> LoadedCheckpoint:
    """Read a checkpoint and check that ``config``, where one is given, describes the same model and data.

    Args:
        path: .pth or .safetensors that train.py wrote.
        config: a config file; it agrees where it, or one of its profiles, has the checkpoint's model and data.
        data_root: where the data set is now: the config that is returned names it, and roots are not compared.
        compared: which parts of the two configs must agree.
    Raises:
        CheckpointError: unreadable, or without a config.
        ConfigError: the config and the checkpoint differ; the first difference is named.
    """
    _fill_registries()
    path = Path(path)
    checkpoint = load_checkpoint(path)
    meta = checkpoint["meta"]
    if not isinstance(meta.get("config"), dict) or "model" not in meta["config"]:
        raise CheckpointError(f"{path}: carries no config; expected a checkpoint that train.py wrote")
    if config is not None:
        _check_agreement(path, meta, Path(config), compared, data_root)
    cfg = restored_config(meta["config"])
    if data_root is not None and "data_root" in cfg:
        cfg = with_data_root(cfg, cfg["data_root"], str(data_root))
    return LoadedCheckpoint(path, checkpoint["state_dict"], cfg, meta)


def build_model(checkpoint: LoadedCheckpoint, device: torch.device, *, fuses: bool = False) -> nn.Module:
    """Build the checkpoint's model with its weights, on ``device``, in eval mode; ``fuses``: as ``fused`` makes it."""
    try:
        model = MODELS.build(checkpoint.cfg["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.path}: its model cannot be built, {error.args[0]}") from error
    load_weights(model, checkpoint.state_dict, source=checkpoint.path)
    model = model.to(device).eval()
    return fused(model) if fuses else model


def fused(model: nn.Module) -> nn.Module:
    """Return ``pcperc.nn.fuse`` of a model in eval mode.

    Raises:
        ConfigError: there is nothing in it to fuse, or it is a super network, whose layers must stay as they are.
    """
    if any(isinstance(module, SPVNAS) for module in model.modules()):
        raise ConfigError("--fuse: a super network cannot be fused; fine-tune a subnet that tools/search.py found")
    try:
        return fuse(model)
    except ValueError as error:
        raise ConfigError(f"--fuse: {error}") from error


def load_model(
    checkpoint: str | Path,
    config: str | Path | None = None,
    device: str | torch.device = "cpu",
    *,
    data_root: str | Path | None = None,
) -> tuple[nn.Module, ConfigDict]:
    """Return the model of a checkpoint in eval mode and the config that it was made with.

    The config's types are registered names; its entries build with ``pcperc.registry``.

    Args:
        checkpoint: .pth or .safetensors that train.py wrote.
        config: checked against the checkpoint where given.
        device: where the model goes.
        data_root: where the data set is now, if not where the checkpoint was trained.
    Raises:
        CheckpointError, ConfigError: see ``open_checkpoint``.
    """
    opened = open_checkpoint(checkpoint, config, data_root=data_root)
    return build_model(opened, torch.device(device)), opened.cfg


def run_in(model: nn.Module, precision: str, device: torch.device) -> None:
    """Let a model compute in "float16" or "bfloat16" wherever torch's autocast does so; "float32" leaves it as it is.

    Raises:
        ConfigError: another precision.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"--precision must be of {', '.join(PRECISIONS)}, got {precision}")
    dtype = PRECISIONS[precision]
    if dtype != torch.float32:
        model.forward = torch.autocast(device.type, dtype)(model.forward)


def newest_checkpoint(work_dir: Path, config: Path) -> Path:
    """Return the checkpoint of the newest finished run in ``work_dir``.

    Raises:
        CheckpointError: there is none; the message gives the command that makes one.
    """
    path = finished_checkpoint(work_dir)
    if path is None:
        raise CheckpointError(f"{work_dir}: no finished checkpoint; make one with: python tools/train.py {config}")
    return path


def _fill_registries() -> None:
    """Import all of pcperc that registers something: a name in a checkpoint is only looked up, never imported."""
    for package in (datasets, evaluation, models, transforms):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def _check_agreement(
    path: Path, meta: dict, config: Path, compared: tuple[str, ...], data_root: str | Path | None
) -> None:
    """Raise ConfigError unless ``config`` or one of its profiles has the checkpoint's model and data."""
    own = load_config(config)
    theirs = _comparable(meta["config"], compared, data_root)
    differences = {}
    for file in (config, *(config.parent / name for name in own.get("profiles", {}).values())):
        cfg = own if file == config else load_config(file)
        here, there = _comparable(cfg, compared, data_root), theirs
        if "subnet" in cfg and "model" in there:
            here, there = ({**plain, "model": without_subnet(plain["model"])} for plain in (here, there))
        if first_difference(here, there) is None:
            return
        # What is left where both have their data in one place; None: the place alone differs.
        differences[str(file)] = first_difference(_without_root(here), _without_root(there))
    made_with = meta.get("config_file", "?")
    # What tells most: the file it was made with, then one with the same model, then the config that the user named.
    same_model = [file for file, difference in differences.items() if not (difference or "").startswith("model")]
    nearest = made_with if made_with in differences else next(iter(same_model), str(config))
    name = str(config) if nearest == str(config) else f"{nearest} (a profile of {config})"
    difference = differences[nearest]
    if difference is None:
        root = load_config(nearest).get("data_root")
        where = f"its data was in {theirs.get('data_root')}, {name} has {root}"
        raise ConfigError(f"{path}: {where}; --data-root DIR says where it is now")
    misfit = f"with other settings of {name}" if nearest == made_with else f"with {made_with} and does not fit {name}"
    raise ConfigError(f"{path} was made {misfit}: {difference}")


def _comparable(cfg: Config | dict, keys: tuple[str, ...], data_root: str | Path | None) -> dict:
    """Return the parts of a config that must agree, as plain data."""
    plain = plain_config({key: cfg[key] for key in keys if key in cfg})
    if data_root is not None and "data_root" in plain:
        plain = with_data_root(plain, plain["data_root"], str(data_root))
    if "test_dataloader" in plain:  # how fast it is read is nobody's conflict
        plain["test_dataloader"] = {"dataset": plain["test_dataloader"]["dataset"]}
    return plain


def _without_root(plain: dict) -> dict:
    """Return comparable parts of a config as if its data were in a folder that all configs have."""
    return with_data_root(plain, plain["data_root"], "data_root") if plain.get("data_root") else plain
