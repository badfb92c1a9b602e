# SPDX-License-Identifier: Apache-2.0
"""What a search knows so far, on disk after every generation."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pcperc.engine.config import ConfigError, first_difference
from pcperc.files import write_text
from pcperc.models.spvnas import Subnet

COSTS = ("gmacs", "mparams", "latency_ms")


@dataclass(frozen=True)
class Member:
    """A subnet that was scored."""

    subnet: Subnet
    generation: int
    miou: float
    gmacs: float
    mparams: float
    latency_ms: float | None = None  # measured where it is limited


@dataclass
class SearchState:
    """All members in the order in which they were scored, and those of the population, the best first."""

    settings: dict
    generation: int = 0  # generations that are done
    members: list[Member] = field(default_factory=list)
    population: list[int] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the state whole or not at all."""
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path, settings: dict) -> "SearchState":
        """Read a state of the same settings.

        Raises:
            ConfigError: it cannot be read, or is of other settings; the first that differs is named.
        """
        try:
            found = json.loads(path.read_text())
            members = [Member(**{**row, "subnet": Subnet(**row["subnet"])}) for row in found.pop("members")]
            state = cls(**found, members=members)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path}: must be the state of a search ({error})") from error
        if difference := first_difference(settings, state.settings):
            raise ConfigError(f"{path}: is of a search with other settings, {difference}")
        return state
