# SPDX-License-Identifier: Apache-2.0
"""Trainings and tests that comparisons of networks are made of: commands of tools, and where their results are."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcperc.benchmark.comparison import trained_checkpoint
from pcperc.benchmark.jobs import Job, num_cores
from pcperc.engine.checkpoint import finished_checkpoint, load_checkpoint
from pcperc.engine.config import ConfigError, load_config
from pcperc.engine.subnet import subnet_overrides

# What tools/test.py writes, by the name of --eval.
SCORES_NAMES = {"semantickitti": "segmentation_scores.json", "calo": "cluster_scores.json"}


@dataclass
class Training:
    """A training into ``folder``, which goes on where it was stopped, and the test of its checkpoint.

    Attributes:
        folder: its name is the job's.
        overrides: of the config.
        evaluation: key of `SCORES_NAMES`.
        side_by_side: runs among which the cores are shared out.
        start: gives the weights of the subnet that is fine-tuned, its description beside them, once ``needs`` are done.
    """

    config: Path
    folder: Path
    seed: int
    overrides: dict[str, Any]
    evaluation: str
    amp: bool = False
    side_by_side: int = 1
    start: Callable[[], Path] | None = None
    needs: tuple[str, ...] = ()
    _found: Path | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return self.folder.name

    def checkpoint(self) -> Path | None:
        """Return the finished one, or None.

        Raises:
            ConfigError: it was trained otherwise.
        """
        if self._found is None and finished_checkpoint(self.folder) is not None:
            overrides = self.overrides
            if self.start is not None:
                overrides = overrides | subnet_overrides(_description(self.start()), self.config)
            self._found = trained_checkpoint(self.folder, self.config, overrides, self.seed, amp=self.amp)
        return self._found

    def jobs(self, *, scored: bool = True) -> list[Job]:
        """Return the training and, with ``scored``, the test after it."""
        found = [Job(self.name, self._command, lambda: self.checkpoint() is not None, self.needs)]
        if scored:
            found.append(scoring(f"{self.name}_scores", self.trained, evaluation=self.evaluation, needs=(self.name,)))
        return found

    def trained(self) -> Path:
        """Return the finished checkpoint.

        Raises:
            ConfigError: there is none.
        """
        path = self.checkpoint()
        if path is None:
            raise ConfigError(f"{self.folder}: no finished training yet")
        return path

    def iterations(self) -> int:
        """Return how many the finished checkpoint has seen."""
        return load_checkpoint(self.trained())["meta"]["iter"]

    def scores(self) -> dict[str, float] | None:
        """Return what `read_scores` does, None too where the training is not finished."""
        path = self.checkpoint()
        return None if path is None else read_scores(path, self.evaluation)

    def _command(self) -> list[Any]:
        words = ["tools/train.py", self.config, "--resume", "--work-dir", self.folder, "--seed", self.seed]
        words += ["--amp"] if self.amp else []
        if self.start is not None:
            weights = self.start()
            words += ["--subnet", _description(weights), "--load-from", weights]
        overrides = self._loading | self.overrides
        if overrides:
            words += ["--cfg-options", *(f"{key}={_as_typed(value)}" for key, value in overrides.items())]
        return words

    @property
    def _loading(self) -> dict[str, int]:
        """Loader processes, where the config has more than this run's part of the cores: how fast, not what."""
        share = max(num_cores() // self.side_by_side - 1, 1)
        own = load_config(self.config).train_dataloader.get("num_workers", 0)
        return {"train_dataloader.num_workers": share} if own > share else {}


def scoring(name: str, checkpoint: Callable[[], Path], *, evaluation: str, needs: tuple[str, ...]) -> Job:
    """The test of a checkpoint into a folder of its name beside it; scores that are newer are kept.

    Args:
        checkpoint: raises ConfigError as long as there is none.
        evaluation: key of `SCORES_NAMES`.
    """

    def command() -> list[Any]:
        path = checkpoint()
        return ["tools/test.py", path, "--eval", evaluation, "--work-dir", path.with_suffix("")]

    def is_done() -> bool:
        try:
            return read_scores(checkpoint(), evaluation) is not None
        except ConfigError:
            return False  # where that is not for want of what the job needs, the command says so

    return Job(name, command, is_done, needs)


def read_scores(checkpoint: Path, evaluation: str) -> dict[str, float] | None:
    """Return the scores of a checkpoint that was tested, by name, or None."""
    path = checkpoint.with_suffix("") / SCORES_NAMES[evaluation]
    if not path.is_file() or path.stat().st_mtime < checkpoint.stat().st_mtime:
        return None
    return json.loads(path.read_text())["scores"]


def _description(weights: Path) -> Path:
    """Return the JSON that tools/search.py writes beside a subnet's weights."""
    return weights.with_suffix(".json")


def _as_typed(value: Any) -> str:
    """Return a value as it stands behind ``KEY=`` in --cfg-options."""
    return str(value).replace(" ", "") if isinstance(value, list | tuple) else str(value)
