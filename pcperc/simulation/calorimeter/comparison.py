# SPDX-License-Identifier: Apache-2.0
"""Lays simulated events beside the events of the real geometry: hits, depth and energies.

Numbers of primaries and of pile-up interactions of size "full" were adjusted to these figures, before any training;
nothing is ever tuned to a score.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pcperc.simulation.calorimeter.generate import Settings, make_event

HADRONIC_Z = 365.0  # cm: between the electromagnetic and the hadronic layers, in both geometries
QUANTILES = (10, 50, 90, 99)
ENERGY_BINS = np.geomspace(5e-3, 50.0, 41)


def real_events(root: Path) -> list[np.ndarray]:
    """Return the hit tables (N, 9) of the real-geometry events below ``root``, the folder of the real samples."""
    paths = sorted((root / "hgcal").glob("*_rechits.npz"))
    if not paths:
        raise FileNotFoundError(f"compare: {root / 'hgcal'} must hold *_rechits.npz, but has none")
    events = []
    for path in paths:
        with np.load(path, allow_pickle=False) as file:
            events.append(file["rechits"])
    return events


def simulated_events(*, events: int, seed: int, size: str = "full") -> list[np.ndarray]:
    """Return the hit tables of simulated events."""
    settings = Settings(max(events, 3), size, seed)
    return [make_event(settings, index)["hits"] for index in range(events)]


def describe(events: list[np.ndarray]) -> dict[str, float]:
    """Return means over events, and quantiles of the energy over all hits."""
    hits = np.concatenate(events)
    energy, depth = hits[:, 0].astype(np.float64), np.abs(hits[:, 7])
    front = depth < HADRONIC_Z
    out = {
        "hits an event": len(hits) / len(events),
        "GeV an event": energy.sum() / len(events),
        "hits in the electromagnetic part, %": 100 * front.mean(),
        "energy in the electromagnetic part, %": 100 * energy[front].sum() / energy.sum(),
        "mean layer of electromagnetic hits (of 28)": float(layer_numbers(hits)[front].mean()),
        "distance of hits from the beam, median, cm": float(np.median(np.hypot(hits[:, 5], hits[:, 6]))),
    }
    for share in QUANTILES:
        out[f"energy of a hit, {share} % quantile, MeV"] = 1e3 * float(np.percentile(energy, share))
    return out


def layer_numbers(hits: np.ndarray) -> np.ndarray:
    """Return the layer of each hit, counted from 1: places that are within 0.5 cm in |z| are one layer.

    The real geometry has 50 layers; tiles stand 0.2 cm beside the silicon of their layer.
    """
    depth = np.abs(hits[:, 7])
    places = np.unique(depth)
    return 1 + np.concatenate([[0], np.cumsum(np.diff(places) > 0.5)])[np.searchsorted(places, depth)]


def compare(real: list[np.ndarray], simulated: list[np.ndarray]) -> list[tuple[str, float, float]]:
    """Return rows (figure, real geometry, simulated)."""
    figures = describe(real), describe(simulated)
    return [(key, figures[0][key], figures[1][key]) for key in figures[0]]


def format_table(rows: list[tuple[str, float, float]]) -> str:
    """Return the comparison as a Markdown table."""
    lines = ["| figure | real geometry | simulated (GFlash) | ratio |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {key} | {a:.4g} | {b:.4g} | {b / a:.2f} |" for key, a, b in rows])


def draw(path: str | Path, real: list[np.ndarray], simulated: list[np.ndarray]) -> None:
    """Draw hits an event, hits by depth and the spectrum of energies, both samples over each other, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    counts, depths, spectrum = figure.subplots(1, 3)
    for name, events, color in (("real geometry", real, "black"), ("simulated (GFlash)", simulated, "tab:red")):
        hits = np.concatenate(events)
        counts.plot([len(event) for event in events], "o", color=color, label=name)
        weight = np.full(len(hits), 1 / len(events))
        depths.hist(layer_numbers(hits), np.arange(0.5, 53.5), weights=weight, histtype="step", color=color, label=name)
        spectrum.hist(hits[:, 0], ENERGY_BINS, weights=weight, histtype="step", color=color, label=name)
    counts.set(xlabel="event", ylabel="hits", ylim=(0, 1.1 * max(map(len, real + simulated))))
    depths.set(xlabel="layer", ylabel="hits an event", yscale="log")
    spectrum.set(xlabel="energy of a hit in GeV", ylabel="hits an event", xscale="log", yscale="log")
    for panel in (counts, depths, spectrum):
        panel.legend()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=110)
