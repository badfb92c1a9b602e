# SPDX-License-Identifier: Apache-2.0
"""The searches of a comparison of segmentation networks: their command, and what they found."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcperc.benchmark.jobs import Job
from pcperc.benchmark.segmenter_costs import Cost, SplitCosts
from pcperc.benchmark.segmenter_options import CompareOptions
from pcperc.benchmark.training_jobs import Training
from pcperc.engine.config import ConfigError, first_difference
from pcperc.models.spvnas import Subnet


@dataclass(frozen=True)
class Chosen:
    """The subnet of a front that is taken at a limit."""

    weights: Path  # its description lies beside
    subnet: Subnet
    cost: Cost  # on the scans that are scored


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
        if self.random:  # scored as tools/test.py scores the searched one, which is compared with them
            return {**given, "random": self.random, "amp": False}
        options = self.options
        return {**given, "population": options.population, "generations": options.generations, "amp": options.amp}

    def _command(self) -> list[Any]:
        words = ["tools/search.py", self.supernet.trained(), "--max-gmacs", self.max_gmacs]  # with its own config
        words += ["--work-dir", self.options.work_dir / self.name]
        words += [] if self.random else ["--resume"]
        settings = self._settings
        words += ["--amp"] if settings.pop("amp") else []
        return words + [word for key, value in settings.items() for word in (f"--{key}", value)]
