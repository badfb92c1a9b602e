# SPDX-License-Identifier: Apache-2.0
"""tools/benchmark.py hits: time of networks of calorimeter hits, clustering apart, by file or number of hits."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pcperc.benchmark.report import Report, environment
from pcperc.benchmark.timing import call_ms
from pcperc.datasets import collate
from pcperc.datasets.calorimeter import read_event
from pcperc.engine.config import load_config
from pcperc.engine.distributed import pick_device
from pcperc.engine.loading import build_model, open_checkpoint
from pcperc.engine.progress import ProgressDisplay
from pcperc.geometry.calorimeter import hit_table
from pcperc.models.capture_model import capture_model
from pcperc.models.minkunet import MinkUNet
from pcperc.nn import fuse
from pcperc.registry import MODELS

FEW_HITS = 10_000  # below, the launches of a GPU and other fixed costs are most of the time
COLUMNS = {
    "network": "",
    "event": "",
    "hits": ",d",
    "median_ms": ".1f",
    "network_ms": ".1f",
    "clustering_ms": ".1f",
    "cpu_ms": ".1f",
    "hits_per_s": ",.0f",
    "us_per_hit": ".2f",
    "clusters": "d",
}


@dataclass(frozen=True)
class HitsOptions:
    """What the command line says; see tools/README.md."""

    models: Sequence[Path]
    input: Sequence[Path]
    hits: Sequence[int] = ()
    runs: int = 3
    max_seconds: float = 60.0
    device: str | None = None
    json: Path | None = None
    cuda_graph: int | None = None  # hits of an event at most, for the networks as CUDA graphs


def measure_hits(options: HitsOptions) -> Report:
    """Time every model on every event: the files as they are, or, with ``hits``, that many hits made of the first file.

    The JSON is written anew after each row, and what stops the run, Ctrl-C too, ends with a table of the rows so far;
    a run without any writes nothing.

    Raises:
        FileNotFoundError, ValueError: as of `read_event`; cuda_graph below 1. RuntimeError: cuda_graph without a GPU.
    """
    device = pick_device(options.device)
    events = {path.name: read_event(path)["hits"] for path in options.input}
    if options.hits:
        pool = next(iter(events.values()))
        events = {f"{count} hits": crowded(pool, count) for count in sorted(options.hits)}
    report = Report("hits", environment(device), {"events": ", ".join(map(str, options.input))})
    if options.cuda_graph is not None:
        report.input["cuda_graph"] = options.cuda_graph
    try:
        with ProgressDisplay("measuring", len(options.models) * len(events)) as display:
            for path in options.models:
                for name in _measure_model(path, events, options, device, report):
                    report.save(options.json)
                    display.advance(name)
    finally:
        if report.rows:  # what is stopped before its first row replaces no file
            report.finish(COLUMNS, options.json)
    return report


def _measure_model(
    path: Path, events: dict[str, np.ndarray], options: HitsOptions, device: torch.device, report: Report
) -> Iterator[str]:
    """Add a row for each event, or why it has none, and yield the event's name."""
    model = load_network(path, device, cuda_graph=options.cuda_graph)
    network, last = path.parent.name if path.suffix != ".py" else path.stem, None
    for name, hits in events.items():
        row = {"network": network, "event": name}
        seconds = 0.0 if last is None else expected_seconds(last, len(hits), runs=options.runs)
        reason = None
        if options.cuda_graph is not None and len(hits) > options.cuda_graph:  # it would run without its graph
            reason = f"{name}: {len(hits)} hits, more than --cuda-graph {options.cuda_graph}"
        elif seconds > options.max_seconds:
            reason = f"{name}: expected to take {seconds:.3g} s, more than --max-seconds {options.max_seconds:g}"
        if reason is None:
            last = time_batch(model, [hits], device=device, runs=options.runs)
            report.rows.append(row | last)
        else:
            report.not_measured.append({"library": network, "reason": reason, **row})
        yield name


def expected_seconds(row: dict[str, float | int], hits: int, *, runs: int) -> float:
    """Return how long a row of ``hits`` hits takes by an earlier one of the same model, if time grows like the hits.

    All passes of `time_batch` count. `FEW_HITS` take no longer than fewer.
    """
    passes = (2 + runs) * row["median_ms"] + runs * row["network_ms"]
    return passes / 1e3 * max(hits, FEW_HITS) / max(row["hits"], FEW_HITS)


def load_network(path: Path, device: torch.device, *, cuda_graph: int | None = None) -> nn.Module:
    """Return the model of a checkpoint, or of a config with initial weights, as it is run: its convolutions fused.

    ``cuda_graph`` puts its backbone into a CUDA graph for batches of so many hits at most.
    """
    if path.suffix == ".py":
        torch.manual_seed(0)
        model = MODELS.build(load_config(path).model).to(device).eval()
    else:
        model = build_model(open_checkpoint(path), device)
    if isinstance(model.backbone, MinkUNet):
        model.backbone = fuse(model.backbone)
    if cuda_graph is not None:
        capture_model(model, capacity=cuda_graph)
    return model


@torch.inference_mode()
def time_batch(
    model: nn.Module, events: Sequence[np.ndarray], *, device: torch.device, runs: int
) -> dict[str, float | int]:
    """Time one batch of events from hits on the host to clusters on the device.

    Returns:
        ``median_ms`` of all, ``network_ms`` of what comes before the clustering, ``clustering_ms``, their difference;
        ``cpu_ms``, the time of all cores in one call, which other work on the machine changes little;
        ``events``, ``hits``, ``hits_per_s``, ``us_per_hit``, ``events_per_s``, and ``clusters`` that were found.
    """
    batch = collate([{"sample_token": str(i), "hits": hits} for i, hits in enumerate(events)])

    def call(mode: str) -> object:
        return model(**model.data_preprocessor(batch, False), mode=mode)

    found = call("predict")
    before = time.process_time()
    call("predict")
    cpu_ms = 1e3 * (time.process_time() - before)
    times = np.array([[call_ms(lambda m=m: call(m), device) for m in ("predict", "tensor")] for _ in range(runs)])
    whole, network = np.median(times, axis=0)
    sums = {
        "events": len(events),
        "hits": sum(len(hits) for hits in events),
        "cpu_ms": cpu_ms,
        "median_ms": float(whole),
        "network_ms": float(network),
        "clustering_ms": float(max(whole - network, 0.0)),
        "clusters": sum(len(torch.unique(f.instances[f.instances >= 0])) for f in found),
    }
    return with_rates(sums)


def time_batches(
    model: nn.Module, batches: Sequence[Sequence[np.ndarray]], *, device: torch.device, runs: int
) -> dict[str, float | int]:
    """Time batches of one size one after the other, as `time_batch` does each; return the sums, and their rates."""
    rows = [time_batch(model, batch, device=device, runs=runs) for batch in batches]
    return with_rates({key: sum(row[key] for row in rows) for key in rows[0]})


def with_rates(sums: dict[str, float | int]) -> dict[str, float | int]:
    """Add what hits and events take."""
    ms, hits = sums["median_ms"], sums["hits"]
    rates = {"hits_per_s": 1e3 * hits / ms, "us_per_hit": 1e3 * ms / max(hits, 1)}
    return sums | rates | {"events_per_s": 1e3 * sums["events"] / ms}


def crowded(hits: np.ndarray, count: int, *, seed: int = 0) -> np.ndarray:
    """Return ``count`` hits: those of an event, and of copies of it that are turned about the beam, in random order.

    More hits are a more crowded event, as with more pile-up; that two copies share a cell is not undone.
    """
    rng = np.random.default_rng(seed)
    parts, left = [], count
    while left > 0:
        part = hits[rng.permutation(len(hits))[:left]]
        turn = rng.uniform(0, 2 * np.pi) if parts else 0.0
        x, y, z = part[:, 5:8].T
        xyz = np.stack([np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y, z], axis=1)
        parts.append(hit_table(part[:, 0], xyz, part[:, 8]))
        left -= len(part)
    return np.concatenate(parts) if parts else hits[:0]
