# SPDX-License-Identifier: Apache-2.0
"""Efficiency, fake rate, response and resolution of calorimeter clusters as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pcperc.evaluation.cluster_response import ClusterTable, curve, left_out
from pcperc.files import written_whole

AXES = {"energy": "energy of the shower in GeV", "nearest": "distance to the nearest other shower in cm"}
PANELS = {
    "efficiency": "efficiency",
    "fake_rate": "fake rate",
    "response": "mean response",
    "resolution": "resolution, deviation / mean",
}


def draw_cluster_curves(
    path: str | Path,
    tables: Mapping[str, ClusterTable],
    *,
    energy_edges: Sequence[float],
    distance_edges: Sequence[float],
    title: str,
) -> None:
    """Draw the four curves against energy (above) and against the nearest shower (below), one line a table, as a PNG.

    Below each panel stands how many showers, or clusters of the fake rate, of each table are outside of the bins.

    Args:
        path: of the PNG; written whole or not at all.
        tables: by the name for the legend, such as the model's; one without rows has no line.
        energy_edges, distance_edges: edges of the bins, increasing; GeV and cm.
        title: says of simulated data that they are.
    Raises:
        ValueError: no table, or edges that do not increase.
    """
    from matplotlib.figure import Figure

    if not tables:
        raise ValueError("draw_cluster_curves: tables must have at least one entry, got none")
    figure = Figure(figsize=(15, 7), layout="constrained")
    figure.suptitle(title)
    rows = zip(figure.subplots(2, len(PANELS)), (("energy", energy_edges), ("nearest", distance_edges)), strict=True)
    for panels, (against, edges) in rows:
        edges = np.asarray(edges, np.float64)
        drawn = {}
        for name, table in tables.items():
            values = curve(table, edges, against=against)
            for panel, key in zip(panels, PANELS, strict=True):
                panel.stairs(getattr(values, key), edges, baseline=None, label=name)
                drawn[panel] = drawn.get(panel, False) or np.isfinite(getattr(values, key)).any()
        for panel, (key, label) in zip(panels, PANELS.items(), strict=True):
            outside = _outside(tables, edges, against, fakes=key == "fake_rate")
            panel.set(xlabel=f"{AXES[against]}\n{outside}", ylabel=label, xlim=(edges[0], edges[-1]))
            panel.xaxis.label.set_size("small")
            if key in ("efficiency", "fake_rate"):
                panel.set_ylim(0.0, 1.05)
            if against == "energy" and edges[0] > 0:
                panel.set_xscale("log")
            if not drawn[panel]:
                panel.set_yticks([])
                panel.text(0.5, 0.5, "too few found", ha="center", va="center", transform=panel.transAxes)
    figure.axes[0].legend()
    with written_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


def _outside(tables: Mapping[str, ClusterTable], edges: np.ndarray, against: str, *, fakes: bool) -> str:
    """Say what the curves of a panel leave out, a line a table."""
    lines = []
    for name, table in tables.items():
        counts = left_out(table, edges, against=against)
        text = counts.of_clusters() if fakes else counts.of_showers()
        lines.append(f"left out: {text}" if len(tables) == 1 else f"left out of {name}: {text}")
    return "\n".join(lines)
