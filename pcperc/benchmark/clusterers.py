# SPDX-License-Identifier: Apache-2.0
"""tools/compare_clusterers.py: networks of calorimeter hits trained alike, scored on the same events, timed."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from pcperc.benchmark.comparison import mean_and_deviation, trained_checkpoint
from pcperc.benchmark.hits import load_network, time_batch
from pcperc.benchmark.report import environment
from pcperc.datasets import CalorimeterHits
from pcperc.engine.checkpoint import finished_checkpoint
from pcperc.engine.config import load_config
from pcperc.engine.distributed import pick_device
from pcperc.engine.messages import say
from pcperc.engine.recipe import TrainOptions
from pcperc.engine.testing import TestOptions, test
from pcperc.engine.training import train
from pcperc.files import write_text

SCORES = tuple(f"{variant}/{quality}" for variant in ("hits", "energy") for quality in ("SQ", "RQ", "PQ"))
RESULTS_NAME = "comparison.json"
TALK = {"Calo-SPVCNN": (92.1, 85.4, 79.8), "GravNet": (90.0, 82.6, 75.9)}  # SQ, RQ, PQ; 11.2 times the speed


@dataclass(frozen=True)
class CompareOptions:
    """What the command line says; see tools/README.md."""

    configs: Sequence[Path]
    seeds: Sequence[int] = (0, 1, 2)
    batches: Sequence[int] = (1, 2, 4, 8)
    runs: int = 5
    work_dir: Path = Path("work_dirs/clusterers")
    overrides: dict = field(default_factory=dict)
    device: str | None = None


def compare_clusterers(options: CompareOptions, *, simulate: Callable[..., Any]) -> dict:
    """Train each config with each seed, score it on its test split and time it there; what is finished is kept.

    Nothing is chosen by a score: each network is trained once a seed, with what its config says, and the epoch that is
    scored is the last. The events of all splits are those of the data set's own seed.

    Returns:
        What is written to comparison.json in the work dir, after each run anew.
    Raises:
        ConfigError: a network in the work dir was trained with another config or other overrides.
    """
    device = pick_device(options.device)
    found: dict[str, Any] = {
        "environment": environment(device),
        "overrides": options.overrides,
        "runs": [],
        "speed": [],
    }
    for seed in options.seeds:
        for config in options.configs:
            found["runs"].append(_run(options, config, seed, simulate))
            write_text(options.work_dir / RESULTS_NAME, json.dumps(found, indent=1))
    for config in options.configs:
        for where in dict.fromkeys((device.type, "cpu")):
            batches = options.batches if where == device.type else options.batches[:1]
            found["speed"] += _speed(options, config, batches, torch.device(where))
            write_text(options.work_dir / RESULTS_NAME, json.dumps(found, indent=1))
    say(format_comparison(found))
    return found


def _run(options: CompareOptions, config: Path, seed: int, simulate: Callable[..., Any]) -> dict:
    folder = options.work_dir / f"{config.stem}_seed{seed}"
    started = time.monotonic()
    checkpoint = trained_checkpoint(folder, config, options.overrides, seed)
    if checkpoint is None:
        arguments = {"work_dir": folder, "overrides": dict(options.overrides), "device": options.device, "seed": seed}
        checkpoint = train(TrainOptions(config, **arguments), simulate=simulate)
    trained = time.monotonic()
    scores = test(TestOptions(None, checkpoint, evaluation="calo", work_dir=folder, device=options.device))
    row = {"network": config.stem, "seed": seed, "checkpoint": str(checkpoint), "train_s": trained - started}
    return row | {"test_s": time.monotonic() - trained, "scores": scores}


def _speed(options: CompareOptions, config: Path, batches: Sequence[int], device: torch.device) -> list[dict]:
    """Time the network of the first seed on test events, at each batch size."""
    checkpoint = finished_checkpoint(options.work_dir / f"{config.stem}_seed{options.seeds[0]}")
    model = load_network(checkpoint, device)
    cfg = load_config(config, dict(options.overrides))
    dataset = CalorimeterHits(root=cfg.data_root, split=cfg.test_dataloader.dataset["split"])
    rows = []
    for batch in batches:
        events = [dataset.read_sample(index % len(dataset))["hits"] for index in range(batch)]
        runs = options.runs if device.type != "cpu" else 2
        row = {"network": config.stem, "device": device.type, "batch": batch}
        rows.append(row | time_batch(model, events, device=device, runs=runs))
    return rows


def format_comparison(found: dict) -> str:
    """Return mean and deviation of the scores over the seeds, and events a second, as plain text."""
    networks = list(dict.fromkeys(run["network"] for run in found["runs"]))
    seeds = len({run["seed"] for run in found["runs"]})
    title = f"simulated (GFlash), mean +- deviation of {seeds} seeds; events/s with clustering: batch 1, best batch"
    table = Table(title=title, title_justify="left")
    devices = list(dict.fromkeys(row["device"] for row in found["speed"]))
    for name in ("network", *SCORES, *(f"{device} 1" for device in devices), *(f"{d} best" for d in devices)):
        table.add_column(name, justify="left" if name == "network" else "right")
    for network in networks:
        cells = []
        for name in SCORES:
            values = [100 * run["scores"].get(name, np.nan) for run in found["runs"] if run["network"] == network]
            cells.append(mean_and_deviation(values))
        own = [row for row in found["speed"] if row["network"] == network]
        for batches in ((1,), None):
            for device in devices:
                rates = [
                    r["events_per_s"]
                    for r in own
                    if r["device"] == device and (batches is None or r["batch"] in batches)
                ]
                cells.append(f"{max(rates):.2f}" if rates else "-")
        table.add_row(network, *cells)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    talk = "; ".join(f"{name} SQ {s}, RQ {r}, PQ {p}" for name, (s, r, p) in TALK.items())
    return f"{capture.get()}\nthe talk, on other data: {talk}; 11.2 times the events/s"
