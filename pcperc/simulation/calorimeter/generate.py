# SPDX-License-Identifier: Apache-2.0
"""Writes a simulated calorimeter data set: one npz file an event, in three splits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pcperc.files import written_whole
from pcperc.simulation.calorimeter.event import SIZES, simulate_event
from pcperc.simulation.folder import write_folder
from pcperc.simulation.workers import run_jobs

SPLITS = ("sim_train", "sim_val", "sim_test")
GENERATOR = 1  # raise whenever the same settings give other events


@dataclass(frozen=True)
class Settings:
    """What fixes a simulated data set.

    Attributes:
        events: how many, at least 3: one for each split. size: "tiny", "small" or "full" (``SIZES``).
        seed: any integer >= 0.
    """

    events: int
    size: str
    seed: int

    def __post_init__(self) -> None:
        if not isinstance(self.events, int) or self.events < len(SPLITS):
            raise ValueError(f"simulate: events must be an integer >= 3 (one for each split), got {self.events}")
        if self.size not in SIZES:
            raise ValueError(f"simulate: size must be one of {', '.join(SIZES)}, got {self.size!r}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"simulate: seed must be an integer >= 0, got {self.seed}")

    def stamp(self) -> dict:
        """Return what is written beside the events."""
        return {"simulated": "calorimeter showers (GFlash)", "generator": GENERATOR, **asdict(self)}


def splits_of(settings: Settings) -> list[str]:
    """Return the split of each event: a tenth each to validate and to test, at least one, drawn by the seed."""
    held_out = max(settings.events // 10, 1)
    order = np.random.default_rng([settings.seed, 1]).permutation(settings.events)
    names = np.full(settings.events, SPLITS[0], object)
    names[order[:held_out]], names[order[held_out : 2 * held_out]] = SPLITS[1], SPLITS[2]
    return names.tolist()


def make_event(settings: Settings, index: int) -> dict[str, np.ndarray]:
    """Simulate event ``index``; depends on nothing but the arguments."""
    return simulate_event(SIZES[settings.size], np.random.default_rng([settings.seed, index, 2]))


def write_event(path: str | Path, event: dict[str, np.ndarray]) -> None:
    """Write the arrays of an event as a compressed npz file, whole or not at all."""
    with written_whole(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **event, allow_pickle=False)


def simulate(
    out: str | Path,
    settings: Settings,
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Write ``<out>/<split>/event_NNNNNN.npz``, or keep what is there if it was made with the same settings.

    The data set is built beside ``out`` and renamed at the end, so ``out`` is complete whenever it exists.
    docs/simulation.md lists the arrays of an event.

    Args:
        out: folder of the data set. workers: processes; the result does not depend on it.
        overwrite: replace a simulated data set of other settings.
        progress: called with (events done, events in all) as work goes on.
    Returns:
        True where it was written, False where it was there.
    Raises:
        FileExistsError: ``out`` holds something else. OSError: the disk is full or not writable.
    """

    def write(root: Path) -> None:
        job = functools.partial(_write_event_of, root, settings, splits_of(settings))
        run_jobs(job, settings.events, workers=workers, progress=progress)

    return write_folder(out, settings.stamp(), write, part=SPLITS[0], overwrite=overwrite)


def _write_event_of(root: Path, settings: Settings, splits: list[str], index: int) -> None:
    """Simulate event ``index`` into the folder of its split."""
    write_event(root / splits[index] / f"event_{index:06d}.npz", make_event(settings, index))
