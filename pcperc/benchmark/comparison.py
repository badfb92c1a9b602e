# SPDX-License-Identifier: Apache-2.0
"""What comparisons of trained networks share: that they were trained alike, and scores over seeds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pcperc.engine.checkpoint import finished_checkpoint, load_checkpoint
from pcperc.engine.config import ConfigError, plain_config
from pcperc.engine.data import choose_profile
from pcperc.engine.recipe import testing_difference, training_difference


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise ConfigError where there is none, or one twice."""
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"compare: --seeds must be one or more different numbers, got {list(seeds)}")


def trained_checkpoint(folder: Path, config: Path, overrides: dict, seed: int, *, amp: bool = False) -> Path | None:
    """Return the checkpoint of the finished training in ``folder``, or None where there is none yet.

    Args:
        config, overrides, seed, amp: how it would be trained now.
    Raises:
        ConfigError: it was trained, or is tested, otherwise; the message names the first difference.
    """
    checkpoint = finished_checkpoint(folder)
    if checkpoint is None:
        return None
    cfg, _, _ = choose_profile(config, None, dict(overrides))
    cfg["seed"] = seed
    if amp:
        cfg.optim_wrapper["amp"] = True
    now, then = plain_config(cfg), load_checkpoint(checkpoint)["meta"]["config"]
    difference = training_difference(now, then)
    if difference is not None:
        raise ConfigError(f"{checkpoint}: was trained otherwise, {difference}; choose another --work-dir")
    difference = testing_difference(now, then)  # a checkpoint is tested by its own config
    if difference is not None:
        raise ConfigError(f"{checkpoint}: is tested otherwise, {difference}; choose another --work-dir")
    return checkpoint


def mean_and_deviation(values: Sequence[float], form: str = ".1f") -> str:
    """Return "mean +- deviation" of one value a seed; of a single one the value, of none "-"."""
    if not len(values):
        return "-"
    spread = f" +- {format(np.std(values, ddof=1), form)}" if len(values) > 1 else ""
    return f"{format(np.mean(values), form)}{spread}"


def plain_table(table: Table, *, width: int = 160) -> str:
    """Return a table as it is printed, ``width`` columns wide."""
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get()
