# SPDX-License-Identifier: Apache-2.0
"""What a comparison of segmentation networks is told."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path("configs/spvnas")
CONFIGS = {
    "minkunet": FOLDER / "minkunet_simulated.py",
    "spvcnn": FOLDER / "spvcnn_simulated.py",
    "supernet": FOLDER / "spvnas_supernet_simulated.py",
    "subnet": FOLDER / "spvnas_subnet_simulated.py",
}


@dataclass(frozen=True)
class CompareOptions:
    """What the command line says; see tools/README.md. ``configs`` are of other data at the same roles."""

    seeds: Sequence[int] = (0, 1, 2)
    epochs: int = 10
    finetune_epochs: int = 4
    population: int = 50
    generations: int = 20
    search_split: str = "sim_test"
    random: int = 20
    limits: Sequence[float] = (20, 25, 35, 65)
    jobs: int = 1
    amp: bool = False
    frames: Path | None = None
    runs: int = 20
    work_dir: Path = Path("work_dirs/segmenters")
    overrides: dict = field(default_factory=dict)
    device: str | None = None
    configs: dict[str, Path] = field(default_factory=lambda: dict(CONFIGS))
