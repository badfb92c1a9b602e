# SPDX-License-Identifier: Apache-2.0
"""Trainings that comparisons of networks are made of: commands of tools, and where their results are."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcperc.benchmark.comparison import trained_checkpoint
from pcperc.benchmark.jobs import Job, num_cores
from pcperc.benchmark.scores import Test
from pcperc.engine.checkpoint import finished_checkpoint, load_checkpoint
from pcperc.engine.config import ConfigError, load_config
from pcperc.engine.subnet import subnet_overrides


@dataclass
class Training:
    """A training into ``folder``, which goes on where it was stopped, and the tests of its checkpoint.

    Attributes:
        folder: its name is the job's.
        overrides: of the config.
        tests: of the finished checkpoint.
        side_by_side: runs among which the cores are shared out.
        start: each gives weights to begin with once ``needs`` are done; first stages of the config are then left out.
        subnet: whether the first are of a subnet that is fine-tuned, its description beside them.
    """

    config: Path
    folder: Path
    seed: int
    overrides: dict[str, Any]
    tests: tuple[Test, ...]
    amp: bool = False
    side_by_side: int = 1
    start: tuple[Callable[[], Path], ...] = ()
    subnet: bool = False
    needs: tuple[str, ...] = ()
    _found: Path | None = field(default=None, init=False)
    _iterations: int | None = field(default=None, init=False)

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
            if self.subnet:
                overrides = overrides | subnet_overrides(_description(self.start[0]()), self.config)
            self._found = trained_checkpoint(self.folder, self.config, overrides, self.seed, amp=self.amp)
        return self._found

    def jobs(self) -> list[Job]:
        """Return the training and the tests after it."""
        training = Job(self.name, self._command, lambda: self.checkpoint() is not None, self.needs)
        tests = (test.job(self.test_name(test), self.trained, needs=(self.name,)) for test in self.tests)
        return [training, *tests]

    def test_name(self, test: Test) -> str:
        """Return the name of the job that is a test of the checkpoint."""
        return f"{self.name}{test.suffix}_scores"

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
        if self._iterations is None:
            self._iterations = load_checkpoint(self.trained())["meta"]["iter"]
        return self._iterations

    def scores(self, test: Test | None = None) -> dict[str, float] | None:
        """Return the scores by a test, the first where none is given; None too where the training is not finished."""
        path = self.checkpoint()
        return None if path is None else (test or self.tests[0]).scores(path)

    def _command(self) -> list[Any]:
        words = ["tools/train.py", self.config, "--resume", "--work-dir", self.folder, "--seed", self.seed]
        words += ["--amp"] if self.amp else []
        weights = [give() for give in self.start]
        words += ["--subnet", _description(weights[0])] if self.subnet else []
        for path in weights:
            words += ["--load-from", path]
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


def _description(weights: Path) -> Path:
    """Return the JSON that tools/search.py writes beside a subnet's weights."""
    return weights.with_suffix(".json")


def _as_typed(value: Any) -> str:
    """Return a value as it stands behind ``KEY=`` in --cfg-options."""
    return str(value).replace(" ", "") if isinstance(value, list | tuple) else str(value)
