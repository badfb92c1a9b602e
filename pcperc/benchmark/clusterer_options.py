# SPDX-License-Identifier: Apache-2.0
"""What a comparison of networks of calorimeter hits is told."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcperc.benchmark.comparison import check_seeds
from pcperc.engine.config import ConfigError

EPOCHS_KEY = "train_cfg.max_epochs"
RATE_KEY = "optim_wrapper.optimizer.lr"


@dataclass(frozen=True)
class CompareOptions:
    """What the command line says; see tools/README.md."""

    configs: Sequence[Path]
    seeds: Sequence[int] = (0, 1, 2)
    epochs: int | None = None
    rates: Sequence[float] = ()
    rates_split: str = "sim_val"
    batches: Sequence[int] = (1, 2, 4, 8, 16)
    runs: int = 5
    jobs: int = 1
    amp: bool = False
    events: Sequence[Path] | None = None
    work_dir: Path = Path("work_dirs/clusterers")
    overrides: dict = field(default_factory=dict)
    device: str | None = None

    @property
    def trained_with(self) -> dict[str, Any]:
        """Overrides of every training, whatever its rate."""
        return self.overrides if self.epochs is None else {**self.overrides, EPOCHS_KEY: self.epochs}


def check_options(options: CompareOptions) -> None:
    """Raise ConfigError where options are out of range."""
    check_seeds(options.seeds)
    names = [config.stem for config in options.configs]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"compare: CONFIG must be one or more files of different names, got {names}")
    for name in ("jobs", "runs", "epochs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"compare: --{name} must be 1 or more, got {value}")
    if min(options.batches, default=0) < 1:
        raise ConfigError(f"compare: --batches must be one or more numbers >= 1, got {list(options.batches)}")
    rates = list(options.rates)
    if not all(0 < rate < math.inf for rate in rates) or len(set(rates)) < len(rates):
        raise ConfigError(f"compare: --rates must be finite, > 0 and different, got {rates}")
    if Path(options.rates_split).name != options.rates_split or options.rates_split in ("", ".."):
        raise ConfigError(f"compare: --rates-split must name a split of the data set, got '{options.rates_split}'")
    for name, key in (("epochs", EPOCHS_KEY), ("rates", RATE_KEY)):
        if getattr(options, name) and key in options.overrides:
            raise ConfigError(f"compare: --{name} and --cfg-options {key} must not both be given")
