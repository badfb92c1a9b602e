# SPDX-License-Identifier: Apache-2.0
"""How long a trained network takes from the hits of given events to clusters; mean shift of its embedding apart."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import nn

from pcperc.benchmark.comparison import plain_table
from pcperc.benchmark.hits import load_network, time_batch
from pcperc.benchmark.report import environment
from pcperc.benchmark.timing import call_ms
from pcperc.datasets import collate
from pcperc.datasets.calorimeter import read_event
from pcperc.engine.config import ConfigError
from pcperc.engine.messages import say
from pcperc.files import write_text
from pcperc.models.calorimeter import ObjectCondensation, mean_shift
from pcperc.models.calorimeter.grouping import within_class

EVENTS_NAME = "events.json"
LIMITS = {"cuda": 100.0, "cpu": 2000.0}  # ms an event, asked for with condensation; on 2 cores
WARM_UP_HITS = 1000
COLUMNS = {
    "device": "",
    "event": "",
    "hits": ",d",
    "median_ms": ".1f",
    "network_ms": ".1f",
    "clustering_ms": ".1f",
    "cpu_ms": ".1f",
    "hits_per_s": ",.0f",
    "clusters": "d",
    "mean_shift_ms": ".1f",
    "mean_shift_clusters": "d",
}


def compare_events(
    checkpoint: Path, files: Sequence[Path], devices: Sequence[torch.device], *, runs: int, work_dir: Path
) -> dict[str, Any]:
    """Time a network on each event on each device, print the table and write events.json into ``work_dir``.

    Args:
        checkpoint: of a network with `ObjectCondensation`.
        files: of events, as of `read_event`.
        runs: timed rounds; mean shift, which may take minutes, is called once, after a call on a few hits that does not
            count.
    Returns:
        ``rows`` with the values of `time_batch`, and ``mean_shift_ms`` from the network's outputs to clusters, in place
        of ``clustering_ms``, with ``mean_shift_clusters``.
    Raises:
        ConfigError: another grouping. FileNotFoundError, ValueError: as of `read_event`.
    """
    events = [(path.name, read_event(path)["hits"]) for path in files]
    rows, facts = [], {}
    for device in devices:
        facts[device.type] = environment(device)
        model = load_network(checkpoint, device)
        if not isinstance(model.grouping, ObjectCondensation):
            kind = type(model.grouping).__name__
            raise ConfigError(f"{checkpoint}: --events is for networks with ObjectCondensation, it has {kind}")
        for name, hits in events:
            row = {"device": device.type, "event": name, **time_batch(model, [hits], device=device, runs=runs)}
            rows.append(row | _mean_shift(model, hits, device))
    found = {"environment": facts, "checkpoint": str(checkpoint), "rows": rows}
    write_text(work_dir / EVENTS_NAME, json.dumps(found, indent=1))
    say(format_events(found))
    return found


@torch.inference_mode()
def _mean_shift(model: nn.Module, hits: np.ndarray, device: torch.device) -> dict[str, float | int]:
    """Time mean shift in the space of condensation, within each class, its bandwidth the radius of condensation."""
    batch = model.data_preprocessor(collate([{"sample_token": "", "hits": hits}]), False)
    found, items = model(**batch, mode="tensor"), batch["inputs"]["prepared"].points.coords[:, 0].long()
    group = within_class(found.logits.argmax(1), items)

    def call(count: int) -> torch.Tensor:
        return mean_shift(found.embedding[:count, 1:], group[:count], bandwidth=model.grouping.radius)

    call(WARM_UP_HITS)
    clusters: list[torch.Tensor] = []
    ms = call_ms(lambda: clusters.append(call(len(hits))), device)
    return {"mean_shift_ms": ms, "mean_shift_clusters": int(clusters[0].max()) + 1 if len(hits) else 0}


def format_events(found: dict[str, Any]) -> str:
    """Return the table, and for each device whether all events keep the time that was asked for, as plain text."""
    table = Table(title=f"{found['checkpoint']}, batch 1, with condensation; mean shift apart", title_justify="left")
    for name, form in COLUMNS.items():
        table.add_column(name, justify="right" if form else "left", no_wrap=True)
    for row in found["rows"]:
        table.add_row(*(format(row[name], form) for name, form in COLUMNS.items()))
    lines = [plain_table(table, width=200)]
    for device, facts in found["environment"].items():
        slowest = max(row["median_ms"] for row in found["rows"] if row["device"] == device)
        word = "REACHED" if slowest <= LIMITS[device] else "NOT REACHED"
        where = f"{device}, {facts['threads']} threads (asked for on 2 cores)" if device == "cpu" else device
        lines.append(f"{word} on {where}: {slowest:.1f} ms at the most, asked for {LIMITS[device]:g} ms")
    return "\n".join(lines)
