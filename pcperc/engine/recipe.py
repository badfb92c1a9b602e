# SPDX-License-Identifier: Apache-2.0
"""The runs that a training is made of: a config, what the command line changes in it, and the stages before it."""

from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from pcperc.engine.config import ConfigError, first_difference, load_config, with_data_root
from pcperc.engine.messages import say

FIRST_STAGE_FOLDER = "lidar_only"
# What must be the same for a run to be resumed: a checkpoint brings its own rates and counts, whatever the config says.
RESUMED_KEYS = ("model", "train_dataloader", "optim_wrapper", "param_scheduler", "train_cfg", "custom_hooks", "seed")
TESTED_KEYS = ("test_dataloader", "test_evaluator", "test_cfg")
LOADING_KEYS = ("num_workers", "persistent_workers", "pin_memory", "prefetch_factor")  # how fast, not what


@dataclass(frozen=True)
class TrainOptions:
    """What the command line says; see tools/README.md."""

    config: Path
    work_dir: Path | None = None
    resume: bool = False
    amp: bool = False
    profile: str | None = None
    load_from: Path | tuple[Path, ...] | None = None
    pretrained_backbone: Path | None = None
    subnet: Path | None = None
    overrides: dict = field(default_factory=dict)
    device: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Stage:
    """One training run of a recipe.

    Attributes:
        load_from: checkpoints to begin with; empty: of the stages in ``before``, if any.
        before: the stages whose weights this one begins with.
    """

    name: str
    cfg: Config
    file: Path
    work_dir: Path
    profile: str
    load_from: tuple[Path, ...] = ()
    before: tuple["Stage", ...] = ()


def default_work_dir(config: Path) -> Path:
    """Return work_dirs/<name of the config>."""
    return Path("work_dirs") / Path(config).stem


def plan_stages(cfg: Config, file: Path, profile: str, work_dir: Path, options: TrainOptions) -> list[Stage]:
    """Return the runs of a recipe in order: first stages in folders of their own, the last directly in ``work_dir``.

    ``first_stage`` of a config names the config of one stage, or is a dict from folder to config of several.

    Raises:
        ConfigError: as `first_stages`; weights that are missing; a first stage that is to begin with others' weights.
    """
    load_from = options.load_from or ()
    load_from = load_from if isinstance(load_from, tuple) else (load_from,)
    if not load_from and cfg.get("load_from"):
        load_from = (file.parent / cfg.load_from,)
        if not load_from[0].is_file():
            raise ConfigError(
                f"{file}: load_from names {load_from[0]}, which is missing; --load-from FILE takes other weights"
            )
        say(f"starting from {load_from[0]}")
    before = []
    for folder, name in first_stages(cfg, file).items() if not load_from else ():
        first_file = file.parent / name
        first = load_config(first_file, _applicable(options.overrides, first_file))
        for key in ("first_stage", "load_from"):
            if first.get(key):
                raise ConfigError(f"{first_file}: {key} must not be there in a first stage, of {file}: it begins anew")
        before.append(Stage(first_file.stem, _adjusted(first, options), first_file, work_dir / folder, profile))
    return [*before, Stage(file.stem, _adjusted(cfg, options), file, work_dir, profile, load_from, tuple(before))]


def first_stages(cfg: Config, file: Path) -> dict[str, str]:
    """Return folder to config of each first stage of ``cfg``, which was read from ``file``.

    Raises:
        ConfigError: ``first_stage`` is neither the name of a config nor a dict of such, or names no plain folder.
    """
    named = cfg.get("first_stage") or {}
    named = {FIRST_STAGE_FOLDER: named} if isinstance(named, str) else named
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise ConfigError(f"{file}: first_stage must be the name of a config or a dict of folder=name, got {named!r}")
    for folder in named:
        if not folder or folder == ".." or Path(folder).name != folder:  # the last stage has the work dir itself
            raise ConfigError(f"{file}: first_stage must name folders in the work dir, got {folder!r}")
    return dict(named.items())


def _adjusted(cfg: Config, options: TrainOptions) -> Config:
    """Put the options of the command line into the config, so that a checkpoint tells them too."""
    if options.amp:
        cfg.optim_wrapper["amp"] = True
    if options.seed is not None:
        cfg["seed"] = options.seed
    return cfg


def _applicable(overrides: dict, file: Path) -> dict:
    """Return those overrides that the config of an earlier stage knows."""
    known = {}
    for key, value in overrides.items():
        try:
            load_config(file, {key: value})
        except ConfigError:
            continue
        known[key] = value
    return known


def training_difference(ours: dict, theirs: dict) -> str | None:
    """Name the first place where two plain configs train differently, or return None; where the data is may differ."""
    return first_difference(_what_trains(ours), _what_trains(theirs))


def testing_difference(ours: dict, theirs: dict) -> str | None:
    """Name the first place where two plain configs are tested differently, or return None, as `training_difference`."""
    return first_difference(_parts(ours, TESTED_KEYS), _parts(theirs, TESTED_KEYS))


def _what_trains(plain: dict) -> dict:
    """Return the parts of a plain config that decide how the weights change, wherever the data is."""
    return _parts(plain, RESUMED_KEYS)


def _parts(plain: dict, keys: tuple[str, ...]) -> dict:
    """Return some parts of a plain config, wherever the data is and however fast it is loaded."""
    parts = {key: plain[key] for key in keys if key in plain}
    parts = with_data_root(parts, plain.get("data_root") or "data_root", "data_root")
    for key in [key for key in parts if key.endswith("_dataloader")]:
        parts[key] = {name: value for name, value in parts[key].items() if name not in LOADING_KEYS}
    return parts
