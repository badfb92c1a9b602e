# SPDX-License-Identifier: Apache-2.0
"""Scores of a checkpoint on a split, by the official evaluation."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from torch import nn

from pcperc.datasets import KITTIFrustums
from pcperc.engine.class_counts import check_class_counts
from pcperc.engine.config import ConfigError, plain_config
from pcperc.engine.data import is_simulated, provide_data
from pcperc.engine.distributed import barrier, is_main, pick_device, start_process_group, stop_process_group
from pcperc.engine.evaluations import DEFAULT_CONFIGS as DEFAULT_CONFIGS
from pcperc.engine.evaluations import EVALUATIONS, WITH_FILES, WITH_FORMAT_ONLY
from pcperc.engine.loading import LoadedCheckpoint, fused, newest_checkpoint, open_checkpoint, run_in
from pcperc.engine.messages import say
from pcperc.engine.recipe import default_work_dir
from pcperc.engine.runner import Runner, RunRecord
from pcperc.engine.score_files import facts_of_test, scores_folder, scores_say
from pcperc.engine.summaries import Scored, print_summary
from pcperc.evaluation import NuScenesMetric, SegmentationMetric
from pcperc.files import only_writer
from pcperc.models import RoomPreprocessor, ShapePreprocessor
from pcperc.models.capture_model import capture_model
from pcperc.registry import DATASETS, METRICS, MODELS, TRANSFORMS, resolve_type
from pcperc.tracking import TRACKERS


@dataclass(frozen=True)
class TestOptions:
    """What the command line says; see tools/README.md."""

    __test__ = False  # not a test of pytest's

    config: Path
    checkpoint: Path | None = None
    evaluation: str | None = None
    split: str | None = None
    work_dir: Path | None = None
    data_root: str | None = None
    blank_images: bool = False
    tracker: str | None = None
    votes: int = 0
    tta: Sequence[float] | None = None
    precision: str = "float32"
    format_only: bool = False
    detections: str | None = None  # of KITTI's frustums: 2D boxes of a detector in place of the labelled ones
    device: str | None = None
    fuse: bool = False
    cuda_graph: int | None = None  # rows of a batch at most, for CUDA graphs, see capture_model


def test(options: TestOptions) -> dict[str, float]:
    """Score a checkpoint, print the table and write scores and results into the work dir.

    Where no work dir is given it is that of the config, or for checkpoints that are not its own `scores_folder` in it.

    Returns:
        The metrics by name.
    Raises:
        CheckpointError, ConfigError, DataMissing, DeviceError: see there.
        OSError: another process is testing into the work dir.
    """
    if options.evaluation is not None and options.evaluation not in EVALUATIONS:
        raise ConfigError(f"--eval must be one of {', '.join(EVALUATIONS)}, got '{options.evaluation}'")
    device = pick_device(options.device)
    work_dir = Path(options.work_dir or default_work_dir(options.config))
    start_process_group(device)
    try:
        path = options.checkpoint or newest_checkpoint(work_dir, options.config)
        work_dir = work_dir if options.work_dir else scores_folder(work_dir, path)
        opened = open_checkpoint(path, options.config, data_root=options.data_root)
        cfg = test_config(opened, options, work_dir)
        # The results that are scored have the same names in every run.
        with only_writer(work_dir, "testing") if is_main() else nullcontext():
            return _score(opened, cfg, options, work_dir, device)
    finally:
        stop_process_group()


test.__test__ = False


def _score(
    opened: LoadedCheckpoint, cfg: Config, options: TestOptions, work_dir: Path, device: torch.device
) -> dict[str, float]:
    if is_main():
        provide_data(cfg, simulate=None)
    record = _record(opened, cfg)
    load = dict(load_from=opened.path, after_load=partial(_prepare, options=options, device=device))
    check = partial(check_class_counts, cfg["model"], path=opened.path)
    runner = Runner(cfg, work_dir=work_dir, device=device, record=record, check_data=check, **load)
    changes = (", images blanked" if options.blank_images else "") + (", norms folded" if options.fuse else "")
    say(f"testing {opened.path} on {_data_name(cfg)}{changes}")
    with scores_say(work_dir, facts_of_test(opened, cfg, options)) if is_main() else nullcontext():
        metrics = runner.test()
    if is_main():
        title = _title(opened, cfg)
        for evaluator in _evaluators(cfg):
            print_summary(_metric_class(evaluator), Scored(title, evaluator, work_dir, metrics))
    barrier()
    return metrics


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
        if "camera" not in cfg.model.get("encoders", {}):
            raise ConfigError(f"{opened.path}: --blank-images is for models with cameras, its model looks at none")
        dataset["transforms"] = [*dataset.get("transforms", []), {"type": "BlankImages"}]
    if options.detections is not None:
        if resolve_type(dataset["type"], DATASETS) is not KITTIFrustums:
            raise ConfigError(f"{opened.path}: --detections is for frustums of KITTI, it has {dataset['type']}")
        dataset["detections"] = str(options.detections)
    _track_detections(cfg, options)
    evaluators = _evaluators_to_run(opened, cfg, options.evaluation)
    cfg.test_evaluator = evaluators if len(evaluators) > 1 else evaluators[0]
    for evaluator in _evaluators(cfg):
        metric = _metric_class(evaluator)
        if issubclass(metric, WITH_FILES):
            evaluator["output_dir"] = str(work_dir)
        if options.votes and not (_draws_clouds(cfg) or issubclass(metric, SegmentationMetric)):
            raise ConfigError(f"{opened.path}: --votes is for segmentation, it has {metric.__name__}")
        if options.format_only and not issubclass(metric, WITH_FORMAT_ONLY):
            raise ConfigError(
                f"{opened.path}: --format-only is for segmentation, KITTI and Argoverse 2, it has {metric.__name__}"
            )
        if options.format_only:
            evaluator["format_only"] = True
    if options.votes and _draws_clouds(cfg):
        cfg.model["data_preprocessor"]["votes"] = options.votes
    elif options.votes:
        cfg.model["votes"] = {"type": "Votes", "rotations": options.votes}
    if options.tta is not None:
        if not {"object", "map"} & set(cfg.model.get("heads", {})):
            raise ConfigError(f"{opened.path}: --tta is for BEVFusion, its model has no head 'object' or 'map'")
        turns = tuple(sign * angle for angle in options.tta for sign in (1, -1))
        cfg.model["votes"] = {"type": "DetectionVotes", "turns_deg": turns}
    return cfg


test_config.__test__ = False


def _draws_clouds(cfg: Config) -> bool:
    """True where the model sees drawn clouds, of which there are several for each point when it votes."""
    preprocessor = cfg.model.get("data_preprocessor", {}).get("type")
    return preprocessor is not None and resolve_type(preprocessor, MODELS) in (ShapePreprocessor, RoomPreprocessor)


def _track_detections(cfg: Config, options: TestOptions) -> None:
    """Let a detector's evaluation follow its detections through the scenes where --eval tracking asks for it."""
    if options.tracker is not None and options.evaluation != "tracking":
        raise ConfigError(f"--tracker {options.tracker}: needs --eval tracking")
    if options.evaluation != "tracking":
        return
    if options.tracker not in (None, *TRACKERS):
        raise ConfigError(f"--tracker must be one of {', '.join(TRACKERS)}, got '{options.tracker}'")
    chosen = {} if options.tracker is None else {"tracker": options.tracker}
    cfg.test_evaluator = [
        {**evaluator, "type": "NuScenesTrackingMetric", **chosen}
        if _metric_class(evaluator) is NuScenesMetric
        else evaluator
        for evaluator in _evaluators(cfg)
    ]


@TRANSFORMS.register_module()
class BlankImages:
    """Make every image black: what a detector still finds then, it finds by LiDAR."""

    def __call__(self, sample: dict) -> dict:
        return {**sample, "images": [image * 0 for image in sample["images"]]}


def _evaluators(cfg: Config) -> list[dict]:
    """Return the metrics of a config; a model with several heads has several."""
    given = cfg.test_evaluator
    return list(given) if isinstance(given, list | tuple) else [given]


def _metric_class(evaluator: dict) -> type:
    return resolve_type(evaluator["type"], METRICS)


def _evaluators_to_run(opened: LoadedCheckpoint, cfg: Config, evaluation: str | None) -> list[dict]:
    """Return those of the checkpoint's metrics that --eval names; all of them without it, and any of our own kinds.

    Raises:
        ConfigError: --eval names an evaluation that the checkpoint's config does not have.
    """
    evaluators = _evaluators(cfg)
    own = {metric: name for name, metric in reversed(EVALUATIONS.items())}
    kinds = [_metric_class(evaluator) for evaluator in evaluators]
    if evaluation is None or not set(kinds) & set(own):
        return evaluators
    wanted = [e for e, kind in zip(evaluators, kinds, strict=True) if kind is EVALUATIONS[evaluation]]
    if not wanted:
        known = " or ".join(own[kind] for kind in kinds if kind in own)
        raise ConfigError(f"--eval {evaluation}: {opened.path} is evaluated by --eval {known}")
    return wanted


def _prepare(model: nn.Module, *, options: TestOptions, device: torch.device) -> nn.Module:
    """Return the model as the options want it: fused, in another precision, its parts in CUDA graphs."""
    model = fused(model.eval()) if options.fuse else model
    run_in(model, options.precision, device)
    if options.cuda_graph is not None:
        try:
            capture_model(model, capacity=options.cuda_graph)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"--cuda-graph: {error}") from error
    return model


def _record(opened: LoadedCheckpoint, cfg: Config) -> RunRecord:
    return RunRecord(
        config=plain_config(cfg),
        config_file=opened.meta.get("config_file", "test"),
        profile=opened.meta.get("profile", "full"),
        data_root=str(cfg.get("data_root", "")),
        simulated=opened.simulated,
    )


def _data_name(cfg: Config) -> str:
    """Return root and split, and whether it is simulated."""
    split = cfg.test_dataloader.dataset.get("split", "")
    simulated = "simulated data: " if is_simulated(cfg) else ""
    return f"{simulated}{cfg.get('data_root', 'its data')} {split}".strip()


def _title(opened: LoadedCheckpoint, cfg: Config) -> str:
    """Return what was scored on what; the profile only where the checkpoint's config has a choice of them."""
    profile = opened.meta.get("profile", "full")
    named = f", profile {profile}" if profile != "full" or "profiles" in opened.cfg else ""
    return f"{opened.path}{named}, {_data_name(cfg)}"
