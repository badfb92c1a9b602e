# SPDX-License-Identifier: Apache-2.0
"""What a comparison of segmentation networks is told."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pcperc.benchmark.comparison import check_seeds
from pcperc.engine.config import ConfigError

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


def check_options(options: CompareOptions) -> None:
    """Raise ConfigError where options are out of range."""
    check_seeds(options.seeds)
    if not 1 <= options.finetune_epochs < options.epochs:
        raise ConfigError(
            f"compare: --finetune-epochs must be in [1, --epochs), got {options.finetune_epochs} of {options.epochs}"
        )
    for name, low in (("jobs", 1), ("random", 1), ("population", 1), ("generations", 0), ("runs", 1)):
        if getattr(options, name) < low:
            raise ConfigError(f"compare: --{name} must be {low} or more, got {getattr(options, name)}")
    if min(options.limits, default=1) <= 0 or len({f"{limit:g}" for limit in options.limits}) < len(options.limits):
        raise ConfigError(f"compare: --limits must be > 0 and different, got {list(options.limits)}")
    for key, why in (("train_cfg.max_epochs", "--epochs"), ("seed", "--seeds")):
        if key in options.overrides:
            raise ConfigError(f"compare: --cfg-options {key}: {why} says that")
