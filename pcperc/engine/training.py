# SPDX-License-Identifier: Apache-2.0
"""Training from a config to a finished checkpoint, stage by stage."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pcperc.engine.backbone import backbone_starter, check_backbone_option, has_cameras, warn_of_random_backbone
from pcperc.engine.checkpoint import (
    finished_checkpoint,
    last_checkpoint,
    load_checkpoint,
    put_back_earlier_run,
    set_aside_earlier_run,
)
from pcperc.engine.class_counts import check_class_counts
from pcperc.engine.config import ConfigError, plain_config
from pcperc.engine.data import choose_profile, is_simulated, provide_data
from pcperc.engine.distributed import (
    barrier,
    gather_objects,
    is_main,
    pick_device,
    restart_count,
    start_process_group,
    stop_process_group,
    under_torchrun,
)
from pcperc.engine.memory import keep_freed_memory
from pcperc.engine.messages import add_note, notes_of, say
from pcperc.engine.recipe import Stage, TrainOptions, default_work_dir, plan_stages, training_difference
from pcperc.engine.runner import Runner, RunRecord
from pcperc.engine.subnet import subnet_overrides
from pcperc.files import only_writer


def train(options: TrainOptions, *, simulate: Callable[..., Any] | None = None) -> Path:
    """Train every stage of the config's recipe.

    A recipe is the config itself, preceded by what its ``first_stage`` names, unless weights to start from are given.
    First stages begin with random weights, one after the other; the last stage begins with theirs (see ``Runner``).
    Under torchrun, a run that was restarted resumes by itself.

    Args:
        simulate: makes the data set of a config that has ``simulation``; called with its entries and ``root``.
    Returns:
        The finished checkpoint.
    Raises:
        ConfigError, DataMissing, CheckpointError, DeviceError, TrainingDiverged: see there.
        KeyboardInterrupt: Ctrl-C; the message says what is saved.
        OSError: another process is training into the work dir.
    """
    device = pick_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()
    start_process_group(device)
    try:
        path = _train(options, device, simulate)
        barrier()  # a process that leaves first pulls the connection from under the others
        return path
    finally:
        stop_process_group()


def _train(options: TrainOptions, device: torch.device, simulate: Callable[..., Any] | None) -> Path:
    started, resume = time.monotonic(), options.resume or restart_count() > 0
    if options.subnet is not None:
        options = replace(options, overrides={**options.overrides, **subnet_overrides(options.subnet, options.config)})
    cfg, file, profile = choose_profile(options.config, options.profile, options.overrides)
    work_dir = Path(options.work_dir or cfg.get("work_dir") or default_work_dir(options.config))
    stages = plan_stages(cfg, file, profile, work_dir, options)
    check_backbone_option(cfg, options.config, options.pretrained_backbone)
    with only_writer(work_dir, "training") if is_main() else nullcontext():
        path = _run_stages(stages, options, device, simulate, resume=resume)
    minutes = (time.monotonic() - started) / 60
    say(f"finished in {minutes:.1f} minutes: {path}")
    if is_simulated(cfg):
        size = "at demonstration size " if profile == "demo" or "demo" in file.stem else ""
        say(f"note: this model was trained {size}on simulated data ({cfg.data_root}); it says nothing about real ones")
    return path


def _run_stages(
    stages: list[Stage],
    options: TrainOptions,
    device: torch.device,
    simulate: Callable[..., Any] | None,
    *,
    resume: bool,
) -> Path:
    """Provide the data of all stages and run one after the other; return the finished checkpoint."""
    called, finished = time.time(), {}
    try:
        if is_main():
            for stage in stages:
                provide_data(stage.cfg, simulate, overrides=options.overrides)
                for partial in stage.work_dir.glob(".*.partial"):  # of a run that was killed while it wrote
                    partial.unlink(missing_ok=True)
        barrier()
        if not (options.resume or stages[-1].load_from or options.pretrained_backbone):
            warn_of_random_backbone(stages[-1].cfg)
        for number, stage in enumerate(stages, 1):
            label = f"stage {number}/{len(stages)} {stage.name}" if len(stages) > 1 else f"training {stage.name}"
            work_dirs = [later.work_dir for later in stages[number - 1 :]]
            given = stage.load_from or tuple(finished[earlier.work_dir] for earlier in stage.before)
            finished[stage.work_dir] = run_stage(
                stage, options, device, label, resume=resume, load_from=given, work_dirs=work_dirs
            )
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(_what_is_saved(stages, 0.0 if resume else called)) from error
    except Exception as error:
        if finished and not notes_of(error):
            _note_what_is_saved(error, list(finished.values())[-1])
        raise
    return finished[stages[-1].work_dir]


def _what_is_saved(stages: list[Stage], since: float) -> str:
    """Say after Ctrl-C what there is to go on from; checkpoints from before ``since`` are of another run."""
    if not is_main():
        return "stopped"
    paths = [path for stage in stages if (path := last_checkpoint(stage.work_dir)) and path.stat().st_mtime >= since]
    if not paths:
        return "stopped before the first checkpoint: nothing is saved"
    return f"stopped; {paths[-1]} {_GOES_ON}"


def _note_what_is_saved(error: Exception, path: Path) -> None:
    """Let the line that is printed of an error name the checkpoint that there is to go on from."""
    add_note(error, f"{path} {_GOES_ON}")


_GOES_ON = "is saved, and the same command with --resume goes on from it"


def run_stage(
    stage: Stage,
    options: TrainOptions,
    device: torch.device,
    label: str,
    *,
    resume: bool,
    load_from: tuple[Path, ...],
    work_dirs: list[Path],
) -> Path:
    """Run one stage to its end, from where its last checkpoint is if ``resume``; return its finished checkpoint.

    Args:
        load_from: checkpoints whose weights it begins with.
        work_dirs: of this stage and those after it; where it begins anew, earlier runs are moved out of them.
    """
    record = RunRecord(
        config=plain_config(stage.cfg),
        config_file=str(stage.file),
        profile=stage.profile,
        data_root=str(stage.cfg.get("data_root", "")),
        simulated=is_simulated(stage.cfg),
    )
    begin = _checkpoint_to_resume(stage, record) if resume else None
    if resume and begin is None:
        say(f"{label}: nothing to resume in {stage.work_dir}, beginning")
    if begin is not None and load_checkpoint(begin)["meta"]["finished"] and finished_checkpoint(stage.work_dir):
        say(f"{label}: finished already, {begin}")
        return begin
    trained_before = any(has_cameras(earlier.cfg) for earlier in stage.before)
    moved: dict[Path, Path] = {}
    start_backbone = backbone_starter(options.pretrained_backbone, has_weights=bool(stage.load_from))

    def before_training(model: torch.nn.Module) -> None:
        if not trained_before:
            start_backbone(model)
        # As late as this: a start that fails disturbs nothing, and its weights may come from there.
        moved.update(_set_aside(work_dirs))

    runner = Runner(
        stage.cfg,
        work_dir=stage.work_dir,
        device=device,
        record=record,
        label=label,
        resume_from=begin,
        load_from=() if begin else load_from,
        check_data=partial(check_class_counts, stage.cfg["model"], path=stage.file),
        after_load=before_training,
    )
    parameters = sum(p.numel() for p in runner.bare_model.parameters()) / 1e6
    say(f"{label}: {parameters:.2f}M parameters on {device}, {runner.world_size} process(es), logs in {runner.log_dir}")
    if begin is not None:
        say(f"{label}: resuming {begin}")
    try:
        runner.train()
    except BaseException as error:
        # Of an earlier run there is none any more once a step is made.
        if isinstance(error, Exception) and runner.iter > 0 and (saved := last_checkpoint(stage.work_dir)):
            _note_what_is_saved(error, saved)
        # Not under torchrun: a restart would take the earlier run for the one to resume.
        if moved and runner.iter == 0 and last_checkpoint(stage.work_dir) is None and not under_torchrun():
            for folder, moved_to in moved.items():
                put_back_earlier_run(folder, moved_to)
            say("no step was made: the checkpoints of the earlier run are back where they were")
        raise
    return last_checkpoint(stage.work_dir)


def _set_aside(work_dirs: list[Path]) -> dict[Path, Path]:
    """Move the checkpoints of an earlier run out of these folders, and say and return where to."""
    barrier()  # another process may still be reading them
    moved = {folder: to for folder in work_dirs if is_main() and (to := set_aside_earlier_run(folder)) is not None}
    for folder, moved_to in moved.items():
        say(f"{folder}: the checkpoints of an earlier run were moved to {moved_to}")
    return moved


def _checkpoint_to_resume(stage: Stage, record: RunRecord) -> Path | None:
    """Return the newest checkpoint of the stage's current run, the same in all processes.

    Raises:
        ConfigError: it was made with another profile or config, whose schedule and optimiser it would go on with.
    """
    path = gather_objects(last_checkpoint(stage.work_dir))[0]
    if path is not None:
        meta = load_checkpoint(path)["meta"]
        profile = meta.get("profile")
        if profile != stage.profile:
            raise ConfigError(
                f"{path}: was made with profile '{profile}', this run has '{stage.profile}'; resume with "
                f"--profile {profile}"
            )
        difference = training_difference(record.config, meta["config"])
        if difference is not None:
            raise ConfigError(
                f"{path}: was made with another config, {difference}; resume with the same one and the same options, "
                "or start from its weights with --load-from"
            )
    return path
