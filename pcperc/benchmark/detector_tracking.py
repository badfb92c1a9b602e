# SPDX-License-Identifier: Apache-2.0
"""Tracks in a comparison of detectors: each tracker on the boxes that networks found, and on the true ones."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pcperc.benchmark.detector_options import BOXES, PARTS, CompareOptions
from pcperc.benchmark.jobs import Job
from pcperc.benchmark.scores import newer_json
from pcperc.benchmark.training_jobs import Training
from pcperc.engine.config import ConfigError
from pcperc.evaluation import flat_tracking_metrics
from pcperc.evaluation.nuscenes import RESULTS_NAME
from pcperc.evaluation.nuscenes_tracking import TRACKING_SUMMARY_NAME
from pcperc.tracking import TRACKERS

TRUTH = "truth"


@dataclass(frozen=True)
class Tracked:
    """A run of tools/track.py, which needs no GPU.

    Attributes:
        boxes: name of the network that found them, or `TRUTH`.
        seed: of its training.
        config, cfg: the config, and what it says with the options of the comparison.
        results: gives the detector's results file once ``needs`` are done; None for the true boxes.
        folder: gives where tracks and scores go.
    """

    boxes: str
    seed: int | None
    tracker: str
    config: Path
    cfg: Config
    folder: Callable[[], Path]
    results: Callable[[], Path] | None = None
    needs: tuple[str, ...] = ()

    def job(self) -> Job:
        of_seed = "" if self.seed is None else f"_seed{self.seed}"
        name = f"tracking_{self.boxes}{of_seed}_{self.tracker}"
        return Job(name, self._command, lambda: self.scores() is not None, self.needs, on_device=False)

    def scores(self) -> dict[str, float] | None:
        """Return the scores by name; None where there are none yet, or of earlier boxes."""
        try:
            path = self.folder() / TRACKING_SUMMARY_NAME
            source = path if self.results is None else self.results()
        except ConfigError:  # no checkpoint yet
            return None
        summary = newer_json(path, source) if source.is_file() else None
        return None if summary is None else flat_tracking_metrics(summary)

    def row(self) -> dict[str, Any] | None:
        scores = self.scores()
        if scores is None:
            return None
        return {"boxes": self.boxes, "seed": self.seed, "tracker": self.tracker, "scores": scores}

    def _command(self) -> list[Any]:
        split = self.cfg.test_dataloader.dataset["split"]
        words = ["tools/track.py", self.config, *([] if self.results is None else [self.results()])]
        words += ["--tracker", self.tracker, "--data-root", self.cfg.data_root, "--split", split]
        return [*words, "--work-dir", self.folder()]


def tracked_boxes(
    options: CompareOptions, trainings: Sequence[tuple[str, Training]], cfgs: dict[str, Config]
) -> Iterator[Tracked]:
    """Yield the runs of each tracker on the boxes of each network, then on the true ones.

    Args:
        trainings: names of networks and one training a seed.
        cfgs: by these names.
    """
    found = [(name, training) for name, training in trainings if name in PARTS["tracking"]]
    for name, training in found:
        for tracker in TRACKERS:
            places = partial(_folder_of_tracks, training, tracker), partial(_results, training)
            needs = (training.test_name(BOXES),)
            yield Tracked(name, training.seed, tracker, training.config, cfgs[name], *places, needs)
    for name, training in found[:1]:
        for tracker in TRACKERS:
            place = partial(Path, options.work_dir, f"tracking_{TRUTH}_{tracker}")
            yield Tracked(TRUTH, None, tracker, training.config, cfgs[name], place)


def _folder_of_tracks(training: Training, tracker: str) -> Path:
    return BOXES.folder(training.trained()) / f"tracking_{tracker}"


def _results(training: Training) -> Path:
    return BOXES.folder(training.trained()) / RESULTS_NAME
