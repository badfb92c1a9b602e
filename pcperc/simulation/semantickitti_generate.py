# SPDX-License-Identifier: Apache-2.0
"""Writes a whole simulated SemanticKITTI root: sequences in parallel, then the lists of splits, then one rename."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pcperc.simulation.folder import write_folder
from pcperc.simulation.semantickitti_sequence import Recording, simulate_sequence, write_sequence
from pcperc.simulation.workers import run_jobs

RECORDINGS = {
    "tiny": Recording(scans=2, columns=256),  # for tests
    "small": Recording(scans=6, columns=1024),
    "full": Recording(scans=20, columns=2083),
}
# Numbers of the published data set: by them readers know what is for training, for scoring and held back.
TRAIN = ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10")
VAL = ("08",)
TEST = ("11", "12", "13", "14", "15", "16", "17", "18", "19", "20", "21")
GENERATOR = 2  # raise whenever the same settings give other bytes
README = """Simulated data: no recording of KITTI.

pcperc's driving simulator wrote these scans in the layout of SemanticKITTI. Its readers take a sequence's part from its
number, so the numbers are those of the published splits; splits.json names these sim_train, sim_val and sim_test, and
every sequence has a file SIMULATED. The sequences of sim_test have labels too. simulation.json holds the settings.
"""


@dataclass(frozen=True)
class Settings:
    """What fixes a simulated data set bit for bit.

    Attributes:
        scenes: number of sequences, 3 to 22: one each to train, to score and held back, then all others to train, then
            all others held back. 12 are all that train, 08 and 11.
        size: "tiny", "small" or "full" (``RECORDINGS``). seed: any integer >= 0.
    """

    scenes: int
    size: str
    seed: int

    def __post_init__(self) -> None:
        most = len(TRAIN + VAL + TEST)
        if not isinstance(self.scenes, int) or not 3 <= self.scenes <= most:
            raise ValueError(f"simulate: scenes must be an integer from 3 (one a split) to {most}, got {self.scenes}")
        if self.size not in RECORDINGS:
            raise ValueError(f"simulate: size must be one of {', '.join(RECORDINGS)}, got {self.size!r}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"simulate: seed must be an integer >= 0, got {self.seed}")

    def stamp(self) -> dict:
        """Return what simulation.json holds."""
        return {"simulated": "driving scenes in SemanticKITTI format", "generator": GENERATOR, **asdict(self)}

    def sequences(self) -> tuple[str, ...]:
        """Return the numbers of the sequences in the order in which a larger set adds them."""
        return (TRAIN[0], *VAL, TEST[0], *TRAIN[1:], *TEST[1:])[: self.scenes]

    def splits(self) -> dict[str, list[str]]:
        """Return the sequences of each split, as splits.json lists them."""
        named = {"sim_train": TRAIN, "sim_val": VAL, "sim_test": TEST}
        return {name: sorted(set(numbers) & set(self.sequences())) for name, numbers in named.items()}


def make_sequence(root: Path, settings: Settings, index: int) -> int:
    """Simulate and write one sequence; returns its number of points. Depends on nothing but the arguments."""
    name = settings.sequences()[index]
    sequence = simulate_sequence(settings.seed, int(name), RECORDINGS[settings.size])
    write_sequence(root / "sequences" / name, sequence)
    return sum(map(len, sequence.points))


def simulate(out: str | Path, settings: Settings, *, workers: int = 1, overwrite: bool = False, progress=None) -> bool:
    """Write a simulated data set, or keep the one that is there if it was made with the same settings.

    Args:
        out: folder of the data set; complete whenever it exists (``write_folder``).
        workers: processes; the result does not depend on it.
        overwrite: replace a simulated data set of other settings. A folder that the simulator did not write is never
            touched.
        progress: called with (sequences done, sequences in all) as work goes on.
    Returns:
        True where it was written, False where it was there.
    Raises:
        FileExistsError: ``out`` holds something else. OSError: the disk is full or not writable.
    """

    def write(root: Path) -> None:
        run_jobs(functools.partial(make_sequence, root, settings), settings.scenes, workers=workers, progress=progress)
        (root / "splits.json").write_text(json.dumps(settings.splits(), indent=1) + "\n", encoding="utf-8")
        (root / "README.md").write_text(README, encoding="utf-8")

    return write_folder(out, settings.stamp(), write, part="sequences", overwrite=overwrite)
