# SPDX-License-Identifier: Apache-2.0
"""Tables of tools/compare_clusterers.py."""

from typing import Any

import numpy as np
from rich.table import Table

from pcperc.benchmark.comparison import mean_and_deviation, plain_table

SCORES = tuple(f"{variant}/{quality}" for variant in ("hits", "energy") for quality in ("SQ", "RQ", "PQ"))
TALK = {"Calo-SPVCNN": (92.1, 85.4, 79.8), "GravNet": (90.0, 82.6, 75.9)}  # SQ, RQ, PQ; 11.2 times the speed


def format_comparison(found: dict[str, Any]) -> str:
    """Return mean and deviation of the scores over the seeds, events a second, and trials of rates, as plain text."""
    talk = "; ".join(f"{name} SQ {s}, RQ {r}, PQ {p}" for name, (s, r, p) in TALK.items())
    trials = [_trials_table(found["trials"])] if found["trials"] else []
    return "\n".join([_networks_table(found), *trials, f"the talk, on other data: {talk}; 11.2 times the events/s"])


def _networks_table(found: dict[str, Any]) -> str:
    networks = list(dict.fromkeys(run["network"] for run in found["runs"]))
    seeds = len({run["seed"] for run in found["runs"]})
    title = (
        f"simulated (GFlash), {_iterations(found['runs'])} iterations, mean +- deviation of {seeds} seeds; events/s, "
        "clustering included: batch 1, best batch"
    )
    table = Table(title=title, title_justify="left")
    ways = list(dict.fromkeys((row["device"], row["how"]) for row in found["speed"]))
    names = [device if how == "eager" else f"{device} {how}" for device, how in ways]
    for name in ("network", "rate", *SCORES, *(f"{name} 1" for name in names), *(f"{name} best" for name in names)):
        table.add_column(name, justify="left" if name == "network" else "right")
    for network in networks:
        rate = next(run["rate"] for run in found["runs"] if run["network"] == network)  # the same for all seeds
        cells = ["-" if rate is None else f"{rate:g}"]
        for name in SCORES:
            values = [100 * run["scores"].get(name, np.nan) for run in found["runs"] if run["network"] == network]
            cells.append(mean_and_deviation(values))
        own = [row for row in found["speed"] if row["network"] == network]
        for batches in ((1,), None):
            for way in ways:
                speeds = [
                    r["events_per_s"]
                    for r in own
                    if (r["device"], r["how"]) == way and (batches is None or r["batch"] in batches)
                ]
                cells.append(f"{max(speeds):.2f}" if speeds else "-")
        table.add_row(network, *cells)
    return plain_table(table, width=200)


def _trials_table(trials: list[dict[str, Any]]) -> str:
    """One row a network and rate, as scored on the events by which the rate was chosen."""
    title = (
        f"simulated (GFlash), validation events ({trials[0]['split']}), {_iterations(trials)} iterations, seed "
        f"{trials[0]['seed']}: learning rates, of which each network takes the one with its best hits/PQ"
    )
    table = Table(title=title, title_justify="left")
    for name in ("network", "rate", *SCORES, "taken"):
        table.add_column(name, justify="left" if name in ("network", "taken") else "right")
    for row in trials:
        scores = [f"{100 * row['scores'].get(name, np.nan):.1f}" for name in SCORES]
        table.add_row(row["network"], f"{row['rate']:g}", *scores, "taken" if row["chosen"] else "")
    return plain_table(table)


def _iterations(rows: list[dict[str, Any]]) -> str:
    return "/".join(str(value) for value in sorted({row["iterations"] for row in rows})) or "0"
