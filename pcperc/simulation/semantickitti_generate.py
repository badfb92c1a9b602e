# SPDX-License-Identifier: Apache-2.0
"""Writes a whole simulated SemanticKITTI root: sequences in parallel, then the lists of splits, then one rename."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pcperc.simulation.data_set import SimulatedSet
from pcperc.simulation.semantickitti_sequence import Recording, simulate_sequence, write_sequence

RECORDINGS = {
    "tiny": Recording(scans=2, columns=256),  # for tests
    "small": Recording(scans=6, columns=1024),
    "full": Recording(scans=20, columns=2083),
}
# Numbers of the published data set: by them readers know what is for training, for scoring and held back.
TRAIN = ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10")
VAL = ("08",)
TEST = ("11", "12", "13", "14", "15", "16", "17", "18", "19", "20", "21")
README = """Simulated data: no recording of KITTI.

pcperc's driving simulator wrote these scans in the layout of SemanticKITTI. Its readers take a sequence's part from its
number, so the numbers are those of the published splits; splits.json names these sim_train, sim_val and sim_test, and
every sequence has a file SIMULATED. The sequences of sim_test have labels too. simulation.json holds the settings.
"""


@dataclass(frozen=True)
class Settings(SimulatedSet):
    """What fixes a simulated data set bit for bit.

    Attributes:
        scenes: number of sequences, 3 to 22: one each to train, to score and held back, then all others to train, then
            all others held back. 12 are all that train, 08 and 11.
        size: "tiny", "small" or "full" (``RECORDINGS``). seed: any integer >= 0.
    """

    kind = "driving scenes in SemanticKITTI format"
    parts = "scenes"
    generator = 2
    folder = "sequences"
    sizes = RECORDINGS
    compiles = True
    readme = README

    scenes: int
    size: str
    seed: int

    def check_count(self) -> None:
        most = len(TRAIN + VAL + TEST)
        if not isinstance(self.scenes, int) or not 3 <= self.scenes <= most:
            raise ValueError(f"simulate: scenes must be an integer from 3 (one a split) to {most}, got {self.scenes}")

    def write_part(self, root: Path, index: int) -> int:
        """Simulate and write one sequence; returns its number of points."""
        name = self.sequences()[index]
        sequence = simulate_sequence(self.seed, int(name), RECORDINGS[self.size])
        write_sequence(root / "sequences" / name, sequence)
        return sum(map(len, sequence.points))

    def finish(self, root: Path, results: dict[int, int]) -> None:
        """Write the names of the splits."""
        (root / "splits.json").write_text(json.dumps(self.splits(), indent=1) + "\n", encoding="utf-8")

    def sequences(self) -> tuple[str, ...]:
        """Return the numbers of the sequences in the order in which a larger set adds them."""
        return (TRAIN[0], *VAL, TEST[0], *TRAIN[1:], *TEST[1:])[: self.scenes]

    def splits(self) -> dict[str, list[str]]:
        """Return the sequences of each split, as splits.json lists them."""
        named = {"sim_train": TRAIN, "sim_val": VAL, "sim_test": TEST}
        return {name: sorted(set(numbers) & set(self.sequences())) for name, numbers in named.items()}
