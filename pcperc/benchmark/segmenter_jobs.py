# SPDX-License-Identifier: Apache-2.0
"""The runs that a comparison of segmentation networks is made of: commands of tools, and where their results are."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcperc.benchmark.comparison import trained_checkpoint
from pcperc.benchmark.jobs import Job, num_cores
from pcperc.benchmark.segmenter_costs import Cost, SplitCosts
from pcperc.benchmark.segmenter_options import CompareOptions
from pcperc.engine.checkpoint import finished_checkpoint
from pcperc.engine.config import ConfigError, first_difference, load_config
from pcperc.engine.subnet import subnet_overrides
from pcperc.models.spvnas import Subnet

SCORES_NAME = "segmentation_scores.json"  # what tools/test.py writes


@dataclass(frozen=True)
class Chosen:
    """The subnet of a front that is taken at a limit."""

    weights: Path  # its description lies beside
    subnet: Subnet
    cost: Cost  # on the scans that are scored

    @property
    def description(self) -> Path:
        return self.weights.with_suffix(".json")


@dataclass
class Training:
    """A training into ``<work dir>/<name>``, which goes on where it was stopped, and the test of its checkpoint.

    Attributes:
        role: key of ``options.configs``.
        width: of a MinkUNet; None is the config's.
        start: gives the subnet that is fine-tuned, once the job ``needs`` is done.
    """

    options: CompareOptions
    name: str
    role: str
    seed: int
    epochs: int
    width: float | None = None
    start: Callable[[], Chosen] | None = None
    needs: tuple[str, ...] = ()
    _found: Path | None = field(default=None, init=False)

    @property
    def folder(self) -> Path:
        return self.options.work_dir / self.name

    @property
    def config(self) -> Path:
        return self.options.configs[self.role]

    def checkpoint(self) -> Path | None:
        """Return the finished one, or None.

        Raises:
            ConfigError: it was trained otherwise.
        """
        if self._found is None and finished_checkpoint(self.folder) is not None:
            overrides = self._overrides
            if self.start is not None:
                overrides |= subnet_overrides(self.start().description, self.config)
            self._found = trained_checkpoint(self.folder, self.config, overrides, self.seed, amp=self.options.amp)
        return self._found

    def jobs(self, *, scored: bool = True) -> list[Job]:
        found = [Job(self.name, self._command, lambda: self.checkpoint() is not None, self.needs)]
        if scored:
            found.append(scoring(f"{self.name}_scores", self.trained, needs=(self.name,)))
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

    def scores(self) -> dict[str, float] | None:
        """Return what `read_scores` does, None too where the training is not finished."""
        path = self.checkpoint()
        return None if path is None else read_scores(path)

    @property
    def _overrides(self) -> dict[str, Any]:
        width = {} if self.width is None else {"model.backbone.net.width": self.width}
        return {**self.options.overrides, "train_cfg.max_epochs": self.epochs, **width}

    def _command(self) -> list[Any]:
        words = ["tools/train.py", self.config, "--resume", "--work-dir", self.folder, "--seed", self.seed]
        words += ["--amp"] if self.options.amp else []
        if self.start is not None:
            words += ["--subnet", self.start().description, "--load-from", self.start().weights]
        overrides = self._loading | self._overrides
        return [*words, "--cfg-options", *(f"{key}={_as_typed(value)}" for key, value in overrides.items())]

    @property
    def _loading(self) -> dict[str, int]:
        """Loader processes, where the config has more than this run's part of the cores: how fast, not what."""
        share = max(num_cores() // self.options.jobs - 1, 1)
        own = load_config(self.config).train_dataloader.get("num_workers", 0)
        return {"train_dataloader.num_workers": share} if own > share else {}


def scoring(name: str, checkpoint: Callable[[], Path], *, needs: tuple[str, ...]) -> Job:
    """The test of a checkpoint into a folder of its name beside it; scores that are newer are kept.

    Args:
        checkpoint: raises ConfigError as long as there is none.
    """

    def command() -> list[Any]:
        path = checkpoint()
        return ["tools/test.py", path, "--eval", "semantickitti", "--work-dir", path.with_suffix("")]

    def is_done() -> bool:
        try:
            return read_scores(checkpoint()) is not None
        except ConfigError:
            return False  # where that is not for want of what the job needs, the command says so

    return Job(name, command, is_done, needs)


def read_scores(checkpoint: Path) -> dict[str, float] | None:
    """Return mIoU and the IoU of each class of a checkpoint that was tested, or None."""
    path = checkpoint.with_suffix("") / SCORES_NAME
    if not path.is_file() or path.stat().st_mtime < checkpoint.stat().st_mtime:
        return None
    return json.loads(path.read_text())["scores"]


@dataclass
class Search:
    """A run of tools/search.py on a trained super network, into ``<work dir>/<name>/search``.

    Attributes:
        max_gmacs: the limit, on the scans of ``split``.
        scans: how many of them.
        random: so many drawn subnets instead of a search.
    """

    options: CompareOptions
    name: str
    supernet: Training
    max_gmacs: float
    split: str
    scans: int
    random: int = 0
    _found: list[dict[str, Any]] | None = field(default=None, init=False)

    def job(self) -> Job:
        return Job(self.name, self._command, lambda: self.rows() is not None, (self.supernet.name,))

    def rows(self) -> list[dict[str, Any]] | None:
        """Return the subnets of the front, the cheapest first, or those that were drawn; None where there are none yet.

        Raises:
            ConfigError: they are of a search with other settings.
        """
        kind = "random" if self.random else "front"
        path = self._folder / f"{kind}.json"
        if self._found is None and path.is_file():
            found = json.loads(path.read_text())
            checkpoint = self.supernet.checkpoint()
            digest = None if checkpoint is None else hashlib.sha256(checkpoint.read_bytes()).hexdigest()
            ours = {**self._settings, "limits": {"gmacs": self.max_gmacs}, "super_network": digest}
            theirs = {key: found["settings"].get(key) for key in ours}
            if difference := first_difference(ours, theirs):
                raise ConfigError(f"{path}: is of other settings, {difference}; choose another --work-dir")
            self._found = found[kind]
        return self._found

    def chosen(self, limit: float, costs: SplitCosts) -> Chosen:
        """Return the subnet of the front that was scored best among those that keep the limit on the scored scans.

        Raises:
            ConfigError: none keeps it.
        """
        for row in reversed(self.rows() or []):  # along a front scores rise with the costs
            subnet = Subnet(**row["subnet"])
            cost = costs.of_subnet(subnet)
            if cost.gmacs <= limit:
                return Chosen(self._folder / "front" / f"{row['name']}.safetensors", subnet, cost)
        raise ConfigError(f"{self._folder}: no subnet of the front keeps {limit:.4g} GMACs")

    @property
    def _folder(self) -> Path:
        return self.options.work_dir / self.name / "search"

    @property
    def _settings(self) -> dict[str, Any]:
        given = {"split": self.split, "scans": self.scans, "seed": self.supernet.seed}
        if self.random:
            return {**given, "random": self.random}
        return {**given, "population": self.options.population, "generations": self.options.generations}

    def _command(self) -> list[Any]:
        words = ["tools/search.py", self.supernet.config, self.supernet.trained(), "--max-gmacs", self.max_gmacs]
        words += ["--work-dir", self.options.work_dir / self.name]
        if "data_root" in self.options.overrides:
            words += ["--data-root", self.options.overrides["data_root"]]
        words += [] if self.random else ["--resume"]
        return words + [word for key, value in self._settings.items() for word in (f"--{key}", value)]


def _as_typed(value: Any) -> str:
    """Return a value as it stands behind ``KEY=`` in --cfg-options."""
    return str(value).replace(" ", "") if isinstance(value, list | tuple) else str(value)
