# SPDX-License-Identifier: Apache-2.0
"""Training from a config to a finished checkpoint, stage by stage."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from pcperc.engine.checkpoint import LAST_MARKER, finished_checkpoint, last_checkpoint, load_checkpoint
from pcperc.engine.config import ConfigError, load_config, plain_config
from pcperc.engine.data import choose_profile, provide_data
from pcperc.engine.distributed import (
    barrier,
    gather_objects,
    is_main,
    pick_device,
    restart_count,
    start_process_group,
    stop_process_group,
)
from pcperc.engine.messages import say
from pcperc.engine.runner import Runner, RunRecord
from pcperc.models.bevfusion.swin import SwinTransformer
from pcperc.models.pretrained import load_pretrained_backbone

FIRST_STAGE_FOLDER = "lidar_only"


@dataclass(frozen=True)
class TrainOptions:
    """What the command line says; see tools/README.md."""

    config: Path
    work_dir: Path | None = None
    resume: bool = False
    amp: bool = False
    profile: str | None = None
    load_from: Path | None = None
    pretrained_backbone: Path | None = None
    from_scratch: bool = False
    overrides: dict = field(default_factory=dict)
    device: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Stage:
    """One training run of a recipe."""

    name: str
    cfg: Config
    file: Path
    work_dir: Path
    profile: str
    load_from: Path | None


def train(options: TrainOptions, *, simulate: Callable[..., Any] | None = None) -> Path:
    """Train every stage of the config's recipe.

    A recipe is the config itself, preceded by its ``first_stage``, unless weights to start from are given. Each stage
    begins with the weights of the one before. Under torchrun, a run that was restarted resumes by itself.

    Args:
        simulate: makes the data set of a config that has ``simulation``; called with its entries and ``root``.
    Returns:
        The finished checkpoint.
    Raises:
        ConfigError, DataMissing, CheckpointError, DeviceError, TrainingDiverged: see there.
    """
    device = pick_device(options.device)
    start_process_group(device)
    try:
        path = _train(options, device, simulate)
        barrier()  # a process that leaves first pulls the connection from under the others
        return path
    finally:
        stop_process_group()


def default_work_dir(config: Path) -> Path:
    """Return work_dirs/<name of the config>."""
    return Path("work_dirs") / Path(config).stem


def _train(options: TrainOptions, device: torch.device, simulate: Callable[..., Any] | None) -> Path:
    cfg, file, profile = choose_profile(options.config, options.profile, options.overrides)
    work_dir = Path(options.work_dir or cfg.get("work_dir") or default_work_dir(options.config))
    stages = plan_stages(cfg, file, profile, work_dir, options)
    _check_backbone_option(cfg, options)
    if is_main():
        for stage in stages:
            provide_data(stage.cfg, simulate)
    barrier()
    started = time.monotonic()
    resume = options.resume or restart_count() > 0
    if is_main():
        for stage in stages:
            for partial in stage.work_dir.glob(".*.partial"):  # of a run that was killed while it wrote
                partial.unlink(missing_ok=True)
            if not resume:  # what --resume finds later must be of this run
                (stage.work_dir / LAST_MARKER).unlink(missing_ok=True)
    barrier()
    path = None
    for number, stage in enumerate(stages, 1):
        label = f"stage {number}/{len(stages)} {stage.name}" if len(stages) > 1 else f"training {stage.name}"
        path = run_stage(stage, options, device, label, resume=resume, previous=path)
    minutes = (time.monotonic() - started) / 60
    say(f"finished in {minutes:.1f} minutes: {path}")
    if cfg.get("simulation") is not None:
        size = "at demonstration size " if "demo" in (profile, file.stem) else ""
        say(f"note: this model was trained {size}on simulated data ({cfg.data_root}); it says nothing about real roads")
    return path


def plan_stages(cfg: Config, file: Path, profile: str, work_dir: Path, options: TrainOptions) -> list[Stage]:
    """Return the runs of a recipe in order: the first stage in its own folder, the last directly in ``work_dir``."""
    load_from = options.load_from
    shipped = cfg.get("load_from")
    if load_from is None and shipped and not options.from_scratch:
        path = file.parent / shipped
        load_from = path if path.is_file() else None
        say(f"starting from {path}" if load_from else f"{path} is not there: training from scratch")
    stages = []
    if cfg.get("first_stage") and load_from is None:
        first_file = file.parent / cfg.first_stage
        first = load_config(first_file, _applicable(options.overrides, first_file))
        folder = work_dir / FIRST_STAGE_FOLDER
        stages.append(Stage(first_file.stem, _adjusted(first, options), first_file, folder, profile, None))
    return [*stages, Stage(file.stem, _adjusted(cfg, options), file, work_dir, profile, load_from)]


def run_stage(
    stage: Stage, options: TrainOptions, device: torch.device, label: str, *, resume: bool, previous: Path | None
) -> Path:
    """Run one stage to its end, from where its last checkpoint is if ``resume``; return its finished checkpoint."""
    begin = _checkpoint_to_resume(stage) if resume else None
    if resume and begin is None:
        say(f"{label}: nothing to resume in {stage.work_dir}, beginning")
    if begin is not None and load_checkpoint(begin)["meta"]["finished"] and finished_checkpoint(stage.work_dir):
        say(f"{label}: finished already, {begin}")
        return begin
    record = RunRecord(
        config=plain_config(stage.cfg),
        config_file=str(stage.file),
        profile=stage.profile,
        data_root=str(stage.cfg.get("data_root", "")),
        simulated=stage.cfg.get("simulation") is not None,
    )
    runner = Runner(
        stage.cfg,
        work_dir=stage.work_dir,
        device=device,
        record=record,
        label=label,
        resume_from=begin,
        load_from=None if begin else stage.load_from or previous,
        after_load=backbone_starter(stage, options),
    )
    parameters = sum(p.numel() for p in runner.bare_model.parameters()) / 1e6
    say(f"{label}: {parameters:.2f}M parameters on {device}, {runner.world_size} process(es), logs in {runner.log_dir}")
    if begin is not None:
        say(f"{label}: resuming {begin}")
    runner.train()
    return last_checkpoint(stage.work_dir)


def _checkpoint_to_resume(stage: Stage) -> Path | None:
    """Return the newest checkpoint of the stage's current run, the same in all processes."""
    path = gather_objects(last_checkpoint(stage.work_dir))[0]
    if path is not None:
        profile = load_checkpoint(path)["meta"].get("profile")
        if profile != stage.profile:
            raise ConfigError(
                f"{path}: was made with profile '{profile}', this run has '{stage.profile}'; resume with "
                f"--profile {profile}"
            )
    return path


def backbone_starter(stage: Stage, options: TrainOptions) -> Callable[[torch.nn.Module], None]:
    """Return what gives a model's camera backbone its pretrained weights, or says that it has none."""

    def start(model: torch.nn.Module) -> None:
        backbone = next((module for module in model.modules() if isinstance(module, SwinTransformer)), None)
        if backbone is None:
            return
        if options.pretrained_backbone is not None:
            layout = load_pretrained_backbone(backbone, options.pretrained_backbone)
            say(f"camera backbone: {options.pretrained_backbone} ({layout} names)")
        elif stage.load_from is None:
            say("camera backbone: trained from scratch (--pretrained-backbone FILE starts from Swin weights)")

    return start


def _check_backbone_option(cfg: Config, options: TrainOptions) -> None:
    if options.pretrained_backbone is None:
        return
    if not options.pretrained_backbone.is_file():
        raise ConfigError(f"--pretrained-backbone {options.pretrained_backbone}: no such file")
    if "camera" not in cfg.model.get("encoders", {}):
        raise ConfigError(f"--pretrained-backbone: {options.config} has no camera encoder")


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
