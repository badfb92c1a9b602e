# SPDX-License-Identifier: Apache-2.0
"""tools/compare_clusterers.py: networks of calorimeter hits trained alike, scored on the same events, timed."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from pcperc.benchmark.clusterer_events import compare_events
from pcperc.benchmark.comparison import check_seeds, mean_and_deviation, plain_table
from pcperc.benchmark.hits import load_network, time_batches
from pcperc.benchmark.jobs import JobQueue, devices_of_jobs, require_none
from pcperc.benchmark.report import environment
from pcperc.benchmark.scores import Test
from pcperc.benchmark.training_jobs import Training
from pcperc.datasets import CalorimeterHits
from pcperc.engine.checkpoint import finished_checkpoint
from pcperc.engine.config import ConfigError, load_config
from pcperc.engine.data import provide_data
from pcperc.engine.distributed import pick_device
from pcperc.engine.memory import keep_freed_memory
from pcperc.engine.messages import say
from pcperc.files import only_writer, write_text

SCORES = tuple(f"{variant}/{quality}" for variant in ("hits", "energy") for quality in ("SQ", "RQ", "PQ"))
RESULTS_NAME = "comparison.json"
CPU_RUNS = 2
TIMED_EVENTS = 8
EPOCHS_KEY = "train_cfg.max_epochs"
TALK = {"Calo-SPVCNN": (92.1, 85.4, 79.8), "GravNet": (90.0, 82.6, 75.9)}  # SQ, RQ, PQ; 11.2 times the speed


@dataclass(frozen=True)
class CompareOptions:
    """What the command line says; see tools/README.md."""

    configs: Sequence[Path]
    seeds: Sequence[int] = (0, 1, 2)
    epochs: int | None = None
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
        """Overrides of every training."""
        return self.overrides if self.epochs is None else {**self.overrides, EPOCHS_KEY: self.epochs}


def compare_clusterers(options: CompareOptions, *, simulate: Callable[..., Any]) -> dict:
    """Train each config with each seed and score it on its test split, then time each; what is finished is kept.

    Nothing is chosen by a score: each network is trained once a seed, with what its config and the options say, and the
    epoch that is scored is the last. The events of all splits are those of the data set's own seed. Trainings and tests
    are runs of tools, ``options.jobs`` side by side; the speeds are taken in this process when none runs any more.

    Returns:
        What is written to comparison.json in the work dir, after the scores and after the speeds of each network.
    Raises:
        ConfigError: options out of range; a network in the work dir was trained with another config or other options.
        RuntimeError: a run failed; all others were done, and what there is was printed and written.
    """
    _check(options)
    device = pick_device(options.device)
    with only_writer(options.work_dir, "comparing"):
        for config in options.configs:  # before several runs would each simulate it
            cfg = load_config(config, dict(options.trained_with))
            provide_data(cfg, simulate, overrides=options.overrides)
        trainings = [_training(options, config, seed) for seed in options.seeds for config in options.configs]
        queue = JobQueue(devices_of_jobs(options.device, device), options.jobs, options.work_dir / "logs")
        # Those of one network in turn over the devices: they take alike long, and no device has all of the slower one.
        in_turn = sorted(trainings, key=lambda training: options.configs.index(training.config))
        failed = queue.run([job for training in in_turn for job in training.jobs()])
        found: dict[str, Any] = {"environment": environment(device), "overrides": options.trained_with}
        found |= {"amp": options.amp, "side_by_side": options.jobs, "speed": []}
        found["runs"] = [row for training in trainings for row in _rows(training, queue.seconds)]
        _write(options, found)
        for training in trainings[: len(options.configs)]:  # of the first seed
            if training.checkpoint() is not None:
                for where in dict.fromkeys((device, torch.device("cpu"))):
                    found["speed"] += _speed(options, training, where)
                    _write(options, found)
        say(format_comparison(found))
    require_none(failed)
    return found


def compare_speed(options: CompareOptions) -> dict:
    """Time the network of the first config and the first seed, trained before, on the files ``options.events``.

    See `compare_events` for what is returned.

    Raises:
        ConfigError: options out of range; it is not trained, or not clustered by condensation.
        FileNotFoundError, ValueError: as of `read_event`.
        OSError: another process is comparing in the work dir.
    """
    _check(options)
    folder = options.work_dir / f"{options.configs[0].stem}_seed{options.seeds[0]}"
    checkpoint = finished_checkpoint(folder)
    if checkpoint is None:
        raise ConfigError(f"{folder}: no finished training; the same command without --events makes one")
    devices = list(dict.fromkeys((pick_device(options.device), torch.device("cpu"))))
    with only_writer(options.work_dir, "comparing"):
        return compare_events(checkpoint, options.events, devices, runs=options.runs, work_dir=options.work_dir)


def _check(options: CompareOptions) -> None:
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
    if options.epochs is not None and EPOCHS_KEY in options.overrides:
        raise ConfigError(f"compare: --epochs and --cfg-options {EPOCHS_KEY} must not both be given")


def _training(options: CompareOptions, config: Path, seed: int) -> Training:
    folder = options.work_dir / f"{config.stem}_seed{seed}"
    how = {"amp": options.amp, "side_by_side": options.jobs}
    return Training(config, folder, seed, options.trained_with, (Test(("calo",)),), **how)


def _rows(training: Training, seconds: dict[str, float]) -> list[dict]:
    """Return a row where the training is scored; its times are of this call's runs, beside others."""
    scores = training.scores()
    if scores is None:
        return []
    row = {"network": training.config.stem, "seed": training.seed, "checkpoint": str(training.checkpoint())}
    row |= {"iterations": training.iterations(), "scores": scores}
    names = {"train_s": training.name, "test_s": f"{training.name}_scores"}
    return [row | {key: seconds.get(name) for key, name in names.items()}]


def _write(options: CompareOptions, found: dict) -> None:
    write_text(options.work_dir / RESULTS_NAME, json.dumps(found, indent=1, default=str))


def _speed(options: CompareOptions, training: Training, device: torch.device) -> list[dict]:
    """Time a network on the same test events, `TIMED_EVENTS` or one batch, at each batch size."""
    cfg = load_config(training.config, dict(options.overrides))
    dataset = CalorimeterHits(root=cfg.data_root, split=cfg.test_dataloader.dataset["split"])
    events = [sample["hits"] for sample in map(dataset.read_sample, range(len(dataset)))]
    most, runs, facts = max(map(len, events)), options.runs, {}
    if device.type == "cpu":
        keep_freed_memory()
        runs, facts = min(options.runs, CPU_RUNS), {"threads": torch.get_num_threads()}
    rows = []
    for how in ("eager", "graph") if device.type == "cuda" else ("eager",):
        for batch in options.batches:
            # As one who does not know the events beforehand would: with room for the largest of each.
            model = load_network(training.trained(), device, cuda_graph=batch * most if how == "graph" else None)
            count = math.ceil(TIMED_EVENTS / batch) * batch
            some = [events[index % len(events)] for index in range(count)]
            batches = [some[start : start + batch] for start in range(0, count, batch)]
            row = {"network": training.config.stem, "device": device.type, "how": how, "batch": batch, **facts}
            rows.append(row | time_batches(model, batches, device=device, runs=runs))
    return rows


def format_comparison(found: dict) -> str:
    """Return mean and deviation of the scores over the seeds, and events a second, as plain text."""
    networks = list(dict.fromkeys(run["network"] for run in found["runs"]))
    seeds = len({run["seed"] for run in found["runs"]})
    iterations = "/".join(str(value) for value in sorted({run["iterations"] for run in found["runs"]}))
    title = (
        f"simulated (GFlash), {iterations or 0} iterations, mean +- deviation of {seeds} seeds; events/s, clustering "
        "included: batch 1, best batch"
    )
    table = Table(title=title, title_justify="left")
    ways = list(dict.fromkeys((row["device"], row["how"]) for row in found["speed"]))
    names = [device if how == "eager" else f"{device} {how}" for device, how in ways]
    for name in ("network", *SCORES, *(f"{name} 1" for name in names), *(f"{name} best" for name in names)):
        table.add_column(name, justify="left" if name == "network" else "right")
    for network in networks:
        cells = []
        for name in SCORES:
            values = [100 * run["scores"].get(name, np.nan) for run in found["runs"] if run["network"] == network]
            cells.append(mean_and_deviation(values))
        own = [row for row in found["speed"] if row["network"] == network]
        for batches in ((1,), None):
            for way in ways:
                rates = [
                    r["events_per_s"]
                    for r in own
                    if (r["device"], r["how"]) == way and (batches is None or r["batch"] in batches)
                ]
                cells.append(f"{max(rates):.2f}" if rates else "-")
        table.add_row(network, *cells)
    talk = "; ".join(f"{name} SQ {s}, RQ {r}, PQ {p}" for name, (s, r, p) in TALK.items())
    return f"{plain_table(table, width=200)}\nthe talk, on other data: {talk}; 11.2 times the events/s"
