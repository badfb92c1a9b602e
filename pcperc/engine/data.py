# SPDX-License-Identifier: Apache-2.0
"""Is the data there that a config needs? If not: the profile to take, what to simulate and prepare, or what to say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from pcperc.datasets.gt_database import INDEX_NAME
from pcperc.datasets.nuscenes import NuScenesDataset
from pcperc.datasets.nuscenes_index import NUM_SWEEPS, gt_database_path, index_path
from pcperc.datasets.nuscenes_lidarseg import NuScenesLidarSeg
from pcperc.datasets.nuscenes_prepare import prepare_nuscenes_for_training
from pcperc.engine.config import ConfigError, load_config
from pcperc.engine.messages import say
from pcperc.registry import DATASETS, resolve_type
from pcperc.simulated import SIMULATION_STAMP, is_simulated_root

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


class DataMissing(FileNotFoundError):
    """A data set is not where the config says; the message names the folder and what to run."""


def data_is_there(cfg: Config) -> bool:
    """True where the folder of tables of the config's data set exists, or the config names no folder."""
    root = cfg.get("data_root")
    return root is None or (Path(root) / cfg.get("data_version", "")).is_dir()


def is_simulated(cfg: Config) -> bool:
    """True where the simulator left its mark in the folder of the config's data set."""
    return is_simulated_root(cfg.get("data_root"))


def choose_profile(path: str | Path, wanted: str | None, overrides: dict | None = None) -> tuple[Config, Path, str]:
    """Read the config of the profile that is wanted, or that the data at hand allows.

    Args:
        path: a config; its ``profiles`` maps names to files beside it. Its own content is the profile "full".
        wanted: a profile's name; None takes "full" where its data is there, else "demo".
    Returns:
        The config, its file and the name of the profile.
    Raises:
        DataMissing: neither is possible, or the overrides name a ``data_root`` that has the data of neither.
        ConfigError: an unknown profile or key.
    """
    path = Path(path)
    cfg = load_config(path, None if wanted not in (None, "full") else overrides)
    profiles = cfg.get("profiles", {})
    if wanted not in (None, "full", *profiles):
        simulated = not profiles and cfg.get("simulation") is not None
        hint = "; its data is simulated already, leave --profile out" if simulated else ""
        raise DataMissing(f"{path}: has no profile '{wanted}' (known: {', '.join(['full', *profiles])}){hint}")
    if wanted == "full" or (wanted is None and (data_is_there(cfg) or "demo" not in profiles)):
        return cfg, path, "full"
    name = wanted or "demo"
    file = path.parent / profiles[name]
    chosen = load_config(file, overrides)
    if wanted is None:
        _require_given_root(chosen, overrides)
        say(f"{cfg.data_root} is missing: training at demonstration size on simulated data (--profile full insists)")
    return chosen, file, name


def provide_data(cfg: Config, simulate: Callable[..., Any] | None, *, overrides: dict | None = None) -> None:
    """Simulate what is missing, where the config's ``simulation`` says how, and prepare what is not prepared.

    A data set that is there is used as it is; where it was simulated otherwise than the config says, a note says so.

    Args:
        simulate: called with the entries of ``simulation`` and ``root``.
        overrides: what the command line changed in ``cfg``. A ``data_root`` of the user's own is never simulated: it
            may be mistyped. With settings of ``simulation``, which the user asked for, the note is an error.
    Raises:
        DataMissing: there is no data set and nothing to simulate it with, or ``overrides`` has its ``data_root``.
        ConfigError: one that was simulated otherwise, where ``overrides`` has settings of ``simulation``.
    """
    if cfg.get("data_root") is None:
        return
    root, version = Path(cfg.data_root), cfg.get("data_version", "")
    if not data_is_there(cfg):
        _require_given_root(cfg, overrides)
        if cfg.get("simulation") is None or simulate is None:
            has_demo = simulate is not None and "demo" in cfg.get("profiles", {})
            or_else = ", or train at demonstration size with --profile demo" if has_demo else ""
            raise DataMissing(
                f"{root / version} is missing: put the data set there (data/README.md shows the tree){or_else}"
            )
        say(f"simulating {root} (once; later runs use it again)")
        simulate(root=root, **dict(cfg.simulation.items()))
    elif cfg.get("simulation") is not None:
        differences = _simulated_otherwise(root, cfg.simulation)
        how = f"simulated with {differences}" if differences else "and no simulation.json says how it was made"
        as_configured = any(key.partition(".")[0] == "simulation" for key in overrides or ())
        if as_configured and differences != "":
            another = f"{_simulate_command(cfg)} --out DIR makes another, --cfg-options data_root=DIR takes it"
            raise ConfigError(f"{root} is there already, {how}; {another}")
        if differences:
            say(f"note: {root} is there already, {how}; it is used as it is")
    datasets = [dataset for loader in LOADERS if (dataset := cfg.get(loader, {}).get("dataset")) is not None]
    indexed = (NuScenesDataset, NuScenesLidarSeg)  # SemanticKITTI is read as it lies there
    nuscenes = [dataset for dataset in datasets if resolve_type(dataset["type"], DATASETS) in indexed]
    if not nuscenes:
        return
    splits = sorted({dataset["split"] for dataset in nuscenes})
    pastes = any(_has_type(dataset, "GTPaste") for dataset in nuscenes)
    if not _is_prepared(root, version, splits, pastes):
        if torch.distributed.is_initialized() and cfg.get("simulation") is None:
            raise DataMissing(  # hours of work for one process while the others wait
                f"{root} is not prepared; run first: python tools/prepare_data.py nuscenes --root {root} "
                f"--version {version}"
            )
        say(f"preparing {root} ({', '.join(splits)})")
    num_sweeps = max(NUM_SWEEPS, *(dataset.get("num_sweeps", NUM_SWEEPS) for dataset in nuscenes))
    prepare_nuscenes_for_training(root, version, splits=splits, num_sweeps=num_sweeps, gt_database=pastes)


def configs_with_data(path: str | Path, data_root: str | Path | None = None) -> list[Config]:
    """Return the config and its profiles, in this order, as far as the data of each is there.

    Args:
        path: of the config.
        data_root: where the data is now, if not where the configs say.
    Raises:
        DataMissing: there is no data for any of them.
        ConfigError: an unknown key or type.
    """
    path = Path(path)
    overrides = {}
    if data_root is not None:
        overrides = {"data_root": str(data_root), "test_dataloader.dataset.root": str(data_root)}
    own = load_config(path, overrides)
    profiles = [load_config(path.parent / name, overrides) for name in own.get("profiles", {}).values()]
    found = [cfg for cfg in (own, *profiles) if data_is_there(cfg)]
    if not found:
        raise DataMissing(
            f"{own.get('data_root')} is missing, and so is the data of the profiles of {path}; "
            "data/README.md shows the tree, tools/simulate.py makes simulated data"
        )
    return found


def build_test_dataset(cfg: Config, split: str | None = None) -> Any:
    """Return the data set of the config's test split, or of another one; it is prepared where it is not yet."""
    if split is not None:
        cfg.test_dataloader.dataset["split"] = split
    loaders = Config({key: cfg[key] for key in ("data_root", "data_version", "test_dataloader") if key in cfg})
    provide_data(loaders, simulate=None)
    return DATASETS.build(cfg.test_dataloader.dataset)


def spread(length: int, count: int) -> list[int]:
    """Return at most ``count`` of the indices of ``length`` samples, evenly from the first to the last."""
    return [int(index) for index in np.linspace(0, length - 1, min(count, length)).round()]


def _is_prepared(root: Path, version: str, splits: list[str], with_gt_database: bool) -> bool:
    """True where the index of every split, and the GT-paste database of the training split, are complete."""
    files = [index_path(root, version, split) for split in splits]
    if with_gt_database:
        files += [gt_database_path(root, version, s) / INDEX_NAME for s in splits if s.endswith("train")]
    return all(file.is_file() for file in files)


def _require_given_root(cfg: Config, overrides: dict | None) -> None:
    """Raise DataMissing where the command line names a ``data_root`` that is missing, of a config that simulates."""
    if "data_root" in (overrides or {}) and cfg.get("simulation") is not None and not data_is_there(cfg):
        root = Path(cfg.data_root)
        missing = root / cfg.get("data_version", "") if root.is_dir() else root
        raise DataMissing(
            f"data_root {missing} is missing, and nothing is simulated in a folder that was given; "
            f"{_simulate_command(cfg)} --out {root} does it on purpose"
        )


def _simulate_command(cfg: Config) -> str:
    """Return the command that simulates what the config's ``simulation`` says, but for the folder."""
    settings = dict(cfg.simulation.items())
    kind = settings.pop("format", "nuscenes").removesuffix("_object")
    return " ".join(["python tools/simulate.py", kind, *(f"--{name} {value}" for name, value in settings.items())])


def _simulated_otherwise(root: Path, wanted: dict) -> str | None:
    """Say in which settings a simulated data set differs from the wanted ones: "" in none, None if none are known."""
    try:
        found = json.loads((root / SIMULATION_STAMP).read_text())
    except (OSError, ValueError):  # data of the world
        return None
    if not isinstance(found, dict):
        return None
    names = [name for name in wanted if name != "format" and found.get(name) != wanted[name]]
    return ", ".join(f"{name} {found.get(name)} instead of {wanted[name]}" for name in names)


def _has_type(value: Any, name: str) -> bool:
    """True where a dict anywhere in ``value`` has a type of that name."""
    if isinstance(value, dict):
        type_ = value.get("type")
        return getattr(type_, "__name__", type_) == name or any(_has_type(item, name) for item in value.values())
    return isinstance(value, list | tuple) and any(_has_type(item, name) for item in value)
