# SPDX-License-Identifier: Apache-2.0
"""Tracks from boxes that are there already: a detector's results file, or the truth."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pcperc.datasets import NuScenesDataset
from pcperc.engine.config import ConfigError
from pcperc.engine.data import build_test_dataset, configs_with_data
from pcperc.engine.messages import say
from pcperc.engine.recipe import default_work_dir
from pcperc.engine.score_files import facts_of_data, scores_say, short_path
from pcperc.evaluation import (
    SceneSample,
    evaluate_tracking,
    flat_tracking_metrics,
    format_tracking_summary,
    read_results,
    rows_to_detections,
    track_scenes,
    write_tracking_results,
)
from pcperc.evaluation.nuscenes_tracking import require_tracking_devkit
from pcperc.evaluation.nuscenes_tracking_results import TRACKING_RESULTS_NAME
from pcperc.files import only_writer
from pcperc.geometry import Detections
from pcperc.simulated import simulated_note
from pcperc.tracking import TRACKERS

# Scores of true boxes: annotators follow an object while no point lies in its box, but such boxes are not scored.
SEEN, HIDDEN = 1.0, 0.5


@dataclass(frozen=True)
class TrackOptions:
    """What the command line says; see tools/README.md."""

    config: Path
    results: Path | None = None
    tracker: str = "kalman"
    split: str | None = None
    work_dir: Path | None = None
    data_root: str | None = None


def track(options: TrackOptions) -> dict[str, float]:
    """Follow the boxes of a results file, or the true ones, through every scene; write the tracks and score them.

    Returns:
        The metrics by name.
    Raises:
        ConfigError: an unknown tracker, a data set without scenes, or a sample of it that the results file lacks: an
            object cannot be followed over a sample of which nothing is said.
        DataMissing, FileNotFoundError, ValueError: see there.
        ImportError: nuscenes-devkit or its motmetrics is not installed.
        OSError: another process is testing into the work dir.
    """
    if options.tracker not in TRACKERS:
        raise ConfigError(f"--tracker must be one of {', '.join(TRACKERS)}, got '{options.tracker}'")
    require_tracking_devkit()
    results = None if options.results is None else read_results(options.results)
    dataset = _dataset(options, results)
    work_dir = options.work_dir or default_work_dir(options.config)
    what = "the true boxes" if results is None else str(options.results)
    say(f"tracking {what} by {options.tracker}")
    tracks = track_scenes(TRACKERS[options.tracker](dataset.classes), _samples(dataset, results))
    if results is None:
        tracks = {token: own.filter(own.scores > HIDDEN) for token, own in tracks.items()}
    meta = dataset.metainfo
    where = {key: meta[key] for key in ("root", "version", "split")}
    facts = {
        "results": None if options.results is None else short_path(options.results),
        "config": short_path(options.config),
        **facts_of_data(meta["root"], meta["split"]),
        "options": {"tracker": options.tracker},
    }
    # The file of results has the same name in every run.
    with only_writer(work_dir, "testing"), scores_say(Path(work_dir), facts):
        path = write_tracking_results(work_dir / TRACKING_RESULTS_NAME, tracks, classes=dataset.classes)
        summary = evaluate_tracking(path, **where, output_dir=work_dir)
    title = f"nuScenes tracking of {what} by {options.tracker}{simulated_note(meta)}"
    say(format_tracking_summary(summary, title=title))
    say(f"tracks: {path}")
    return flat_tracking_metrics(summary)


def _dataset(options: TrackOptions, results: dict[str, list[dict]] | None) -> NuScenesDataset:
    """Return the data set of the config, or of the profile, whose samples the results are of."""
    lacking = ""
    for cfg in configs_with_data(options.config, options.data_root):
        dataset = build_test_dataset(cfg, options.split)
        if not isinstance(dataset, NuScenesDataset):
            raise ConfigError(f"{options.config}: tracks are of the scenes of nuScenes, got {type(dataset).__name__}")
        tokens = (dataset.read_record(index)["sample_token"] for index in range(len(dataset)))
        missing = [] if results is None else [token for token in tokens if token not in results]
        if not missing:
            return dataset
        lacking = f"{len(missing)} of {len(dataset)} samples of {dataset.split}, first {missing[0]}"
    raise ConfigError(f"{options.results} must hold every sample, but lacks {lacking}; --split chooses other data")


def _samples(dataset: NuScenesDataset, results: dict[str, list[dict]] | None) -> Iterator[SceneSample]:
    for index in range(len(dataset)):
        record = dataset.read_record(index)
        lidar2global = np.array(record["ego2global"]) @ np.array(record["lidar2ego"])
        if results is None:
            truth = dataset.read_boxes(index, with_hidden=True)
            scores = np.where(truth["valid"], SEEN, HIDDEN).astype(np.float32)
            found = Detections(*map(torch.from_numpy, (truth["boxes"], scores, truth["labels"])))
        else:
            found = rows_to_detections(results[record["sample_token"]], lidar2global, classes=dataset.classes)
        time = record["timestamp_us"] * 1e-6
        yield SceneSample(record["sample_token"], record["scene_name"], time, found, lidar2global)
