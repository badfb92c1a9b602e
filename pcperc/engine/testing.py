# SPDX-License-Identifier: Apache-2.0
"""Scores of a checkpoint on a split, by the official evaluation."""

import json
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from pcperc.engine.config import ConfigError, plain_config
from pcperc.engine.data import provide_data
from pcperc.engine.distributed import barrier, is_main, pick_device, start_process_group, stop_process_group
from pcperc.engine.loading import LoadedCheckpoint, newest_checkpoint, open_checkpoint
from pcperc.engine.messages import say
from pcperc.engine.runner import Runner, RunRecord
from pcperc.engine.training import default_work_dir
from pcperc.evaluation import NuScenesMetric, format_summary
from pcperc.registry import METRICS, TRANSFORMS, resolve_type

EVALUATIONS = ("nuscenes", "bbox")  # two names of one evaluation: bbox is what the original repository calls it


@dataclass(frozen=True)
class TestOptions:
    """What the command line says; see tools/README.md."""

    __test__ = False  # not a test of pytest's

    config: Path
    checkpoint: Path | None = None
    evaluation: str = "nuscenes"
    split: str | None = None
    work_dir: Path | None = None
    data_root: str | None = None
    blank_images: bool = False
    device: str | None = None


def test(options: TestOptions) -> dict[str, float]:
    """Score a checkpoint, print the table and write results_nusc.json into the work dir.

    Returns:
        The metrics by name.
    Raises:
        CheckpointError, ConfigError, DataMissing, DeviceError: see there.
    """
    if options.evaluation not in EVALUATIONS:
        raise ConfigError(f"--eval must be one of {', '.join(EVALUATIONS)}, got '{options.evaluation}'")
    device = pick_device(options.device)
    start_process_group(device)
    try:
        work_dir = options.work_dir or default_work_dir(options.config)
        path = options.checkpoint or newest_checkpoint(work_dir, options.config)
        opened = open_checkpoint(path, options.config, data_root=options.data_root)
        cfg = test_config(opened, options, work_dir)
        if is_main():
            provide_data(cfg, simulate=None)
        runner = Runner(cfg, work_dir=work_dir, device=device, record=_record(opened, cfg), load_from=path)
        say(f"testing {path} on {_data_name(cfg)}{', images blanked' if options.blank_images else ''}")
        metrics = runner.test()
        if is_main():
            _print_summary(opened, cfg, work_dir, metrics)
        barrier()
        return metrics
    finally:
        stop_process_group()


test.__test__ = False


def test_config(opened: LoadedCheckpoint, options: TestOptions, work_dir: Path) -> Config:
    """Return the checkpoint's config with what the options change, cut down to what testing needs."""
    made_with = opened.cfg
    missing = [key for key in ("test_dataloader", "test_evaluator") if key not in made_with]
    if missing:
        raise ConfigError(f"{opened.path}: its config has no {missing[0]}, so it cannot be tested")
    keys = ("model", "test_dataloader", "test_evaluator", "test_cfg", "data_root", "data_version", "seed")
    cfg = Config({key: made_with[key] for key in keys if key in made_with})
    dataset = cfg.test_dataloader.dataset
    if options.split is not None:
        dataset["split"] = options.split
    if options.blank_images:
        dataset["transforms"] = [*dataset.get("transforms", []), {"type": "BlankImages"}]
    if _is_nuscenes(cfg.test_evaluator):
        cfg.test_evaluator["output_dir"] = str(work_dir)
    return cfg


test_config.__test__ = False


@TRANSFORMS.register_module()
class BlankImages:
    """Make every image black: what a detector still finds then, it finds by LiDAR."""

    def __call__(self, sample: dict) -> dict:
        return {**sample, "images": [image * 0 for image in sample["images"]]}


def _is_nuscenes(evaluator: dict) -> bool:
    return resolve_type(evaluator["type"], METRICS) is NuScenesMetric


def _record(opened: LoadedCheckpoint, cfg: Config) -> RunRecord:
    return RunRecord(
        config=plain_config(cfg),
        config_file=opened.meta.get("config_file", "test"),
        profile=opened.meta.get("profile", "full"),
        data_root=str(cfg.get("data_root", "")),
        simulated=opened.simulated,
    )


def _data_name(cfg: Config) -> str:
    """Return root and split; names of simulated splits and versions carry "sim"."""
    split = cfg.test_dataloader.dataset.get("split", "")
    simulated = "simulated data: " if "sim" in f"{split} {cfg.get('data_version', '')}" else ""
    return f"{simulated}{cfg.get('data_root', 'its data')} {split}".strip()


def _title(opened: LoadedCheckpoint, cfg: Config) -> str:
    """Return what was scored on what; the profile only where the checkpoint's config has a choice of them."""
    profile = opened.meta.get("profile", "full")
    named = f", profile {profile}" if profile != "full" or "profiles" in opened.cfg else ""
    return f"{opened.path}{named}, {_data_name(cfg)}"


def _print_summary(opened: LoadedCheckpoint, cfg: Config, work_dir: Path, metrics: dict[str, float]) -> None:
    """Print the devkit's table, or the numbers of another metric one a line; a simulated score says so."""
    if not _is_nuscenes(cfg.test_evaluator):
        say("\n".join(f"{name}: {value:.4f}" for name, value in metrics.items()))
        return
    summary = json.loads((work_dir / "metrics_summary.json").read_text())
    say(f"\n{_title(opened, cfg)}")
    say(format_summary(summary, title="nuScenes detection"))
    say(f"results: {work_dir / 'results_nusc.json'}")
