# SPDX-License-Identifier: Apache-2.0
"""Efficiency, fake rate, response and resolution of calorimeter clusters as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pcperc.evaluation.cluster_response import ClusterTable, CurveErrors, curve, curve_errors, left_out
from pcperc.files import written_whole

AXES = {"energy": "energy of the shower in GeV", "nearest": "distance to the nearest other shower in cm"}
FAKE_AXES = {
    "energy": "energy of the cluster in GeV",
    "nearest": "distance of the cluster to the nearest other shower in cm",
}
PANELS = {
    "efficiency": "efficiency",
    "fake_rate": "fake rate",
    "response": "mean response",
    "resolution": "resolution, deviation / mean",
}
ENTRIES = {
    "efficiency": "showers in each bin",
    "fake_rate": "clusters in each bin",
    "response": "showers found in each bin",
    "resolution": "showers found in each bin",
}
FEW = 10  # a point of fewer entries is hollow and dotted: its error bar itself is hardly known
_MARGIN = 0.05  # of the height, below 0 and above what is highest, so that no point is cut in half
_ROW = 0.055  # of the height, for a row of counts above a panel


def draw_cluster_curves(
    path: str | Path,
    tables: Mapping[str, ClusterTable],
    *,
    energy_edges: Sequence[float],
    distance_edges: Sequence[float],
    title: str,
) -> None:
    """Draw the four curves against energy (above) and against the nearest shower (below), points of each table, as a
    PNG.

    Points have error bars of one standard deviation, as `curve_errors` tells them: Wilson's interval of efficiency and
    fake rate, ``(p + 1 / 2n -+ sqrt(p (1 - p) / n + 1 / 4n^2)) / (1 + 1 / n)``; ``s / sqrt(n)`` of the response;
    ``r sqrt(1 / (2 (n - 1)) + r^2 / n)`` of the resolution. They are as wide as their bins, which are drawn equally
    wide. Above each panel stands how many showers or clusters, n, each bin has, a row for each table; a point of fewer
    than `FEW` is hollow and dotted. Below stands how many of each table are outside of the bins.

    Args:
        path: of the PNG; written whole or not at all.
        tables: by the name for the legend, such as the model's; one without rows has no points.
        energy_edges, distance_edges: edges of the bins, increasing; GeV and cm. Of the fake rate those of the cluster,
            as `ClusterTable` has them.
        title: says of simulated data that they are.
    Raises:
        ValueError: no table, or edges that do not increase.
    """
    from matplotlib.figure import Figure

    if not tables:
        raise ValueError("draw_cluster_curves: tables must have at least one entry, got none")
    figure = Figure(figsize=(16, 8), layout="constrained")
    figure.suptitle(title)
    hollow = False
    rows = zip(figure.subplots(2, len(PANELS)), (("energy", energy_edges), ("nearest", distance_edges)), strict=True)
    for panels, (against, edges) in rows:
        edges = np.asarray(edges, np.float64)
        found = [(curve(t, edges, against=against), curve_errors(t, edges, against=against)) for t in tables.values()]
        for panel, key in zip(panels, PANELS, strict=True):
            for number, (values, errors) in enumerate(found):
                within = (number + 1) / (len(found) + 1)
                hollow |= _draw_points(panel, getattr(values, key), errors[key], number, within=within)
            _name(panel, tables, edges, against, key)
            _make_room(panel, [(getattr(values, key), errors[key]) for values, errors in found], key)
    _draw_legend(figure, tables, hollow=hollow)
    with written_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


def _draw_points(panel: Any, values: np.ndarray, errors: CurveErrors, number: int, *, within: float) -> bool:
    """Draw the points of a table at a part of their bins and their counts above; return whether any is of few."""
    color, at = f"C{number}", np.arange(len(values)) + within
    for place, count in enumerate(errors.entries):
        above = dict(transform=panel.get_xaxis_transform(), ha="center", va="bottom", fontsize="small")
        panel.text(place + 0.5, 1.01 + _ROW * number, f"{count}", color=color, **above)
    few = errors.entries < FEW
    for rows, face, line in ((~few, color, "-"), (few, "white", ":")):
        rows = rows & np.isfinite(values)
        if rows.any():
            style = dict(fmt="o", markersize=5, color=color, markerfacecolor=face, elinewidth=1.2)
            wide, long = [[within], [1 - within]] * np.ones(rows.sum()), [errors.below[rows], errors.above[rows]]
            *_, bars = panel.errorbar(at[rows], values[rows], xerr=wide, yerr=long, **style)
            for bar in bars:
                bar.set_linestyle(line)
    return bool((few & np.isfinite(values)).any())


def _make_room(panel: Any, points: Sequence[tuple[np.ndarray, CurveErrors]], key: str) -> None:
    """Show all from 0, or say that there are no points; one long error bar does not press all others together."""
    values = np.concatenate([value for value, _ in points])
    if not np.isfinite(values).any():
        panel.set_yticks([])
        panel.text(0.5, 0.5, "too few found", ha="center", va="center", transform=panel.transAxes)
        return
    ends = np.concatenate([value + np.nan_to_num(errors.above) for value, errors in points])
    top = 1.0
    if key in ("response", "resolution"):
        top = max(min(np.nanmax(ends), 2 * np.nanmax(values)), 1.0 if key == "response" else 1e-3)
    panel.set_ylim(-_MARGIN * top, (1 + _MARGIN) * top)


def _name(panel: Any, tables: Mapping[str, ClusterTable], edges: np.ndarray, against: str, key: str) -> None:
    """Name the axes of a panel, what its counts are of and what it leaves out."""
    fakes = key == "fake_rate"
    axis, outside = (FAKE_AXES if fakes else AXES)[against], _outside(tables, edges, against, fakes=fakes)
    panel.set(xlabel=f"{axis}\n{outside}", ylabel=PANELS[key], xlim=(0, len(edges) - 1))
    panel.set_xticks(range(len(edges)), [f"{edge:g}" for edge in edges])
    panel.xaxis.label.set_size("small")
    panel.set_title(ENTRIES[key], loc="left", fontsize="small", y=1.01 + _ROW * len(tables), pad=1)


def _draw_legend(figure: Any, tables: Mapping[str, ClusterTable], *, hollow: bool) -> None:
    from matplotlib.lines import Line2D

    entries = [Line2D([], [], color=f"C{number}", marker="o", label=name) for number, name in enumerate(tables)]
    if hollow:
        style = dict(color="0.4", linestyle=":", marker="o", markerfacecolor="white")
        entries.append(Line2D([], [], label=f"of fewer than {FEW}", **style))
    figure.legend(handles=entries, loc="outside lower center", ncols=len(entries))


def _outside(tables: Mapping[str, ClusterTable], edges: np.ndarray, against: str, *, fakes: bool) -> str:
    """Say what the points of a panel leave out, a line a table."""
    lines = []
    for name, table in tables.items():
        counts = left_out(table, edges, against=against)
        text = counts.of_clusters() if fakes else counts.of_showers()
        lines.append(f"left out: {text}" if len(tables) == 1 else f"left out of {name}: {text}")
    return "\n".join(lines)
