# SPDX-License-Identifier: Apache-2.0
"""The trainings of a comparison of clusterers, and the trials by which a network's learning rate is chosen."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.registry import PARAM_SCHEDULERS

from pcperc.benchmark.clusterer_options import RATE_KEY, CompareOptions
from pcperc.benchmark.jobs import Job
from pcperc.benchmark.scores import Test
from pcperc.benchmark.training_jobs import Training
from pcperc.datasets import CalorimeterHits
from pcperc.engine.config import ConfigError, load_config
from pcperc.registry import resolve_type

TEST = Test(("calo",))
JUDGED_BY = "hits/PQ"
RATES_OF_SCHEDULES = ("eta_min", "eta_max", "min_value")  # all else in MMEngine's is relative to the optimiser's


def training_folder(options: CompareOptions, config: Path, seed: int, rate: float | None) -> Path:
    """Return where a network is trained; without a rate, at that of its config."""
    at = "" if rate is None else f"_rate{float(rate)}"
    return options.work_dir / f"{config.stem}{at}_seed{seed}"


def training_at(options: CompareOptions, config: Path, seed: int, rate: float | None, *, test: Test = TEST) -> Training:
    """Return a training of the comparison with its test; without a rate, at that of its config."""
    overrides = options.trained_with
    if rate is not None:
        overrides = overrides | rate_overrides(config, rate, overrides)
    how = {"amp": options.amp, "side_by_side": options.jobs}
    return Training(config, training_folder(options, config, seed, rate), seed, overrides, (test,), **how)


def rate_overrides(config: Path, rate: float, overrides: dict[str, Any]) -> dict[str, float]:
    """Return what gives a config, changed by ``overrides``, another learning rate and the same shape of the schedule.

    Raises:
        ConfigError: its schedule has rates of its own, and its optimiser none that they could be scaled by.
    """
    cfg = load_config(config, dict(overrides))
    own, given = cfg.optim_wrapper.optimizer.get("lr"), cfg.get("param_scheduler") or []
    schedules = {"": given} if isinstance(given, dict) else {f".{place}": each for place, each in enumerate(given)}
    found = {RATE_KEY: float(rate)}
    for place, schedule in schedules.items():
        if issubclass(resolve_type(schedule["type"], PARAM_SCHEDULERS), LRSchedulerMixin):  # not of momentum
            for name in filter(schedule.get, RATES_OF_SCHEDULES):
                if own is None:
                    raise ConfigError(f"{config}: {RATE_KEY} must be there, to scale {name} of the schedule by --rates")
                found[f"param_scheduler{place}.{name}"] = schedule[name] * rate / own
    return found


@dataclass(frozen=True)
class Trials:
    """One network trained with the first seed at each of several rates, scored on ``options.rates_split``.

    With no rate, or one, there is nothing to choose, and this has no trainings.
    """

    options: CompareOptions
    config: Path

    @cached_property
    def trainings(self) -> dict[float, Training]:
        """By rate, the smallest first."""
        options, test = self.options, Test(TEST.evaluations, split=self.options.rates_split)
        rates = sorted(options.rates) if len(options.rates) > 1 else []
        return {rate: training_at(options, self.config, options.seeds[0], rate, test=test) for rate in rates}

    def check_split(self, cfg: Config) -> None:
        """Check that the events which choose are there, and that ``cfg``, the network's, uses them for nothing else.

        Raises:
            ConfigError: it trains or is tested on them. FileNotFoundError, ValueError: as of `CalorimeterHits`.
        """
        if not self.trainings:
            return
        root, split = cfg.test_dataloader.dataset["root"], self.options.rates_split
        for does, loader in (("trains", cfg.train_dataloader), ("is tested", cfg.test_dataloader)):
            folder = Path(loader.dataset["root"], loader.dataset.get("split", ""))
            if folder.resolve() == Path(root, split).resolve():
                raise ConfigError(f"compare: --rates-split must not be {split}, on which {self.config} {does}")
        CalorimeterHits(root=root, split=split)

    def jobs(self) -> Iterator[Job]:
        for training in self.trainings.values():
            yield from training.jobs()

    def are_scored(self) -> bool:
        return all(training.scores() is not None for training in self.trainings.values())

    def rate(self) -> float | None:
        """Return the rate with the best PQ by hits, of equals the smallest, once all are scored.

        Without trials: the one that the options have, or None for that of the config.
        """
        if not self.trainings:
            return next(iter(self.options.rates), None)
        return max(self.trainings, key=self._quality)  # the first of equals

    def rows(self, seconds: dict[str, float]) -> list[dict[str, Any]]:
        """Return a row for each trial that is scored, as `scored_rows`; nothing is chosen before all are."""
        chosen = self.rate() if self.are_scored() else None
        return [
            row | {"split": self.options.rates_split, "chosen": rate == chosen}
            for rate, training in self.trainings.items()
            for row in scored_rows(training, seconds)
        ]

    def _quality(self, rate: float) -> float:
        value = self.trainings[rate].scores().get(JUDGED_BY, math.nan)
        return -math.inf if math.isnan(value) else value


def scored_rows(training: Training, seconds: dict[str, float]) -> list[dict[str, Any]]:
    """Return a row where the training is scored; its times are of this call's runs, beside others."""
    scores = training.scores()
    if scores is None:
        return []
    rate = load_config(training.config, dict(training.overrides)).optim_wrapper.optimizer.get("lr")
    row = {"network": training.config.stem, "rate": rate, "seed": training.seed}
    row |= {"checkpoint": str(training.checkpoint()), "iterations": training.iterations(), "scores": scores}
    names = {"train_s": training.name, "test_s": training.test_name(training.tests[0])}
    return [row | {key: seconds.get(name) for key, name in names.items()}]
