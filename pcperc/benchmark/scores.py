# SPDX-License-Identifier: Apache-2.0
"""Tests of checkpoints that comparisons are made of: which command they are, and where their scores are."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from pcperc.benchmark.jobs import Job
from pcperc.engine.config import ConfigError
from pcperc.evaluation import flat_metrics

# By the name of --eval: what tools/test.py writes, and how the scores by name are read out of it.
SCORES: dict[str, tuple[str, Callable[[dict], dict[str, float]]]] = {
    "semantickitti": ("segmentation_scores.json", itemgetter("scores")),
    "calo": ("cluster_scores.json", itemgetter("scores")),
    "nuscenes": ("metrics_summary.json", flat_metrics),
    "map": ("scores.json", itemgetter("scores")),
}


@dataclass(frozen=True)
class Test:
    """A run of tools/test.py of a checkpoint, into a folder of its own beside it.

    Attributes:
        evaluations: keys of `SCORES`; several are all that the checkpoint's config has, which one pass serves.
        blank_images: whether the cameras see nothing.
        split: of the data set, in place of the one that the checkpoint's config tests on.
    """

    __test__ = False  # not a test of pytest's

    evaluations: tuple[str, ...]
    blank_images: bool = False
    split: str | None = None

    @property
    def suffix(self) -> str:
        """What the names of its folder and its job have behind those of the checkpoint and the training."""
        return ("_blank_images" if self.blank_images else "") + (f"_{self.split}" if self.split else "")

    def folder(self, checkpoint: Path) -> Path:
        return checkpoint.with_name(f"{checkpoint.stem}{self.suffix}")

    def command(self, checkpoint: Path) -> list[Any]:
        words: list[Any] = ["tools/test.py", checkpoint]
        words += ["--eval", *self.evaluations] if len(self.evaluations) == 1 else []
        words += ["--blank-images"] if self.blank_images else []
        words += ["--split", self.split] if self.split else []
        return [*words, "--work-dir", self.folder(checkpoint)]

    def scores(self, checkpoint: Path) -> dict[str, float] | None:
        """Return the scores of all evaluations by name, or None where one of them is not newer than the checkpoint."""
        found: dict[str, float] = {}
        for evaluation in self.evaluations:
            name, read = SCORES[evaluation]
            summary = newer_json(self.folder(checkpoint) / name, checkpoint)
            if summary is None:
                return None
            found |= read(summary)
        return found

    def job(self, name: str, checkpoint: Callable[[], Path], *, needs: tuple[str, ...]) -> Job:
        """Return the run; scores that are newer than the checkpoint are kept.

        Args:
            checkpoint: raises ConfigError as long as there is none.
        """

        def is_done() -> bool:
            try:
                return self.scores(checkpoint()) is not None
            except ConfigError:
                return False  # where that is not for want of what the job needs, the command says so

        return Job(name, lambda: self.command(checkpoint()), is_done, needs)


def newer_json(path: Path, source: Path) -> Any | None:
    """Return what a JSON file holds, or None where there is no whole one that was written after ``source``.

    The devkit writes its files in place: one may be there half, while its test runs or since that was killed.
    """
    if not path.is_file() or path.stat().st_mtime < source.stat().st_mtime:
        return None
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None
