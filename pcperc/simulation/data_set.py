# SPDX-License-Identifier: Apache-2.0
"""What all simulated data sets are: so many parts, each made by itself, and a size and a seed that fix every byte."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

from pcperc.simulation.folder import write_folder
from pcperc.simulation.workers import run_jobs

COMPILING = "compiling the simulator, once on this machine"  # what tools say of it


class SimulatedSet:
    """What fixes a simulated data set bit for bit: the base of each simulator's frozen dataclass ``Settings``.

    Its fields are how many parts there are, under their own name, ``size`` and ``seed``, any integer >= 0.

    Attributes:
        kind: what is simulated, and in which format. parts: what the parts are called.
        generator: raised whenever the same settings give other bytes.
        folder: one that every complete data set has. sizes: the names that ``size`` may be.
        compiles: whether numba compiles what makes a part, at size "tiny" as at others.
        least, least_is: the least number of parts, and what it is enough for. readme: what README.md says, if anything.
    """

    kind: ClassVar[str]
    parts: ClassVar[str]
    generator: ClassVar[int]
    folder: ClassVar[str]
    sizes: ClassVar[Collection[str]]
    compiles: ClassVar[bool] = False
    least: ClassVar[int]
    least_is: ClassVar[str]
    readme: ClassVar[str] = ""

    size: str
    seed: int

    def __post_init__(self) -> None:
        self.check_count()
        if self.size not in self.sizes:
            raise ValueError(f"simulate: size must be one of {', '.join(self.sizes)}, got {self.size!r}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"simulate: seed must be an integer >= 0, got {self.seed}")

    @property
    def count(self) -> int:
        """How many parts there are."""
        return getattr(self, self.parts)

    def check_count(self) -> None:
        """Raise ValueError where there are too few parts."""
        if not isinstance(self.count, int) or self.count < self.least:
            expected = f"an integer >= {self.least} ({self.least_is})"
            raise ValueError(f"simulate: {self.parts} must be {expected}, got {self.count}")

    def stamp(self) -> dict:
        """Return what simulation.json holds."""
        return {"simulated": self.kind, "generator": self.generator, **asdict(self)}

    def write_part(self, root: Path, index: int) -> Any:
        """Simulate and write part ``index``; depends on nothing but ``self`` and ``index``."""
        raise NotImplementedError

    def finish(self, root: Path, results: dict[int, Any]) -> None:
        """Write what belongs to no part; ``results`` holds by number what ``write_part`` returned."""


def simulate(
    out: str | Path,
    settings: SimulatedSet,
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    compiling: Callable[[], None] | None = None,
) -> bool:
    """Write a simulated data set, or keep the one that is there if it was made with the same settings.

    Args:
        out: folder of the data set; complete whenever it exists (``write_folder``).
        workers: processes; the result does not depend on it.
        overwrite: replace a simulated data set of other settings. A folder that the simulator did not write is never
            touched.
        progress: called with (parts done, parts in all) as work goes on.
        compiling: called before the simulator is compiled, ahead of ``progress``, in the first simulation of a user.
    Returns:
        True where it was written, False where it was there.
    Raises:
        FileExistsError: ``out`` holds something else. OSError: the disk is full or not writable.
        ImportError: the format needs a package that is missing.
    """

    def write(root: Path) -> None:
        if settings.compiles:
            from pcperc.simulation.jit import compile_once  # other simulators do without numba

            compile_once(type(settings).__module__, functools.partial(_write_tiny_part, settings), begins=compiling)
        job = functools.partial(settings.write_part, root)
        settings.finish(root, run_jobs(job, settings.count, workers=workers, progress=progress))
        if settings.readme:
            (root / "README.md").write_text(settings.readme, encoding="utf-8")

    return write_folder(out, settings.stamp(), write, part=settings.folder, overwrite=overwrite)


def _write_tiny_part(settings: SimulatedSet) -> None:
    """Write the smallest part there is and throw it away: nothing is left to be compiled for another."""
    with tempfile.TemporaryDirectory() as scratch:
        replace(settings, size="tiny").write_part(Path(scratch), 0)
