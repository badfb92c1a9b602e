# SPDX-License-Identifier: Apache-2.0
"""Writes a simulated calorimeter data set: one npz file an event, in three splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcperc.files import write_arrays
from pcperc.simulation.calorimeter.event import SIZES, simulate_event
from pcperc.simulation.data_set import SimulatedSet

SPLITS = ("sim_train", "sim_val", "sim_test")


@dataclass(frozen=True)
class Settings(SimulatedSet):
    """What fixes a simulated data set.

    Attributes:
        events: how many, at least 3: one for each split. size: "tiny", "small" or "full" (``SIZES``).
        seed: any integer >= 0.
    """

    kind = "calorimeter showers (GFlash)"
    parts = "events"
    generator = 1
    folder = SPLITS[0]
    sizes = SIZES
    least, least_is = len(SPLITS), "one for each split"

    events: int
    size: str
    seed: int

    def write_part(self, root: Path, index: int) -> None:
        """Simulate event ``index`` into the folder of its split."""
        write_event(root / splits_of(self)[index] / f"event_{index:06d}.npz", make_event(self, index))


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
    write_arrays(path, event)
