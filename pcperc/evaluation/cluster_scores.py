# SPDX-License-Identifier: Apache-2.0
"""SQ, RQ and PQ of a data set: by hits and by energy, per class and per event."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from pcperc.evaluation.clusters import QUALITIES, count_matches, match_clusters, mean_qualities, qualities

# How hits count in the IoU, and how segments count in the sums.
VARIANTS = {
    "hits": {"by_energy": False, "weighted": False},
    "energy": {"by_energy": True, "weighted": False},
    "weighted": {"by_energy": True, "weighted": True},  # wSQ, wRQ, wPQ
}


def count_event(
    truth_class: np.ndarray,
    truth_instance: np.ndarray,
    predicted_class: np.ndarray,
    predicted_instance: np.ndarray,
    energy: np.ndarray,
    *,
    num_classes: int,
) -> np.ndarray:
    """Match an event in every variant.

    Args:
        truth_class, truth_instance, predicted_class, predicted_instance, energy: (N,) as of `match_clusters`.
        num_classes: C.
    Returns:
        (3, C, 4) float64 in the order of `VARIANTS`, as of `count_matches`; sums over events add.
    Raises:
        ValueError: as of `match_clusters` and `count_matches`.
    """
    arguments = (truth_class, truth_instance, predicted_class, predicted_instance, energy)
    counts = []
    for variant in VARIANTS.values():
        matches = match_clusters(*arguments, by_energy=variant["by_energy"])
        counts.append(count_matches(matches, num_classes=num_classes, weighted=variant["weighted"]))
    return np.stack(counts)


def cluster_scores(events: Sequence[np.ndarray], classes: Sequence[str]) -> dict[str, float]:
    """Return ``{"<variant>/PQ", "<variant>/<class>/PQ", "<variant>/event/PQ", ...}``, and SQ and RQ alike.

    The first is the mean over the classes that are present in the counts summed over all events; the last is the mean
    over events, each by itself, with a true or predicted segment. What is undefined (NaN) is left out.

    Args:
        events: (3, C, 4) each, as of `count_event`; none gives no score. classes: C names.
    """
    total = sum(events, np.zeros((len(VARIANTS), len(classes), 4)))
    scores: dict[str, float] = {}
    for index, variant in enumerate(VARIANTS):
        rows = {variant: mean_qualities(total[index])}
        for name, values in zip(classes, qualities(total[index]), strict=True):
            rows[f"{variant}/{name}"] = values
        alone = np.array([mean_qualities(event[index]) for event in events]).reshape(-1, len(QUALITIES))
        alone = alone[~np.isnan(alone[:, 0])]
        rows[f"{variant}/event"] = alone.mean(axis=0) if len(alone) else np.full(len(QUALITIES), np.nan)
        for name, values in rows.items():
            scores |= {f"{name}/{quality}": float(value) for quality, value in zip(QUALITIES, values, strict=True)}
    return {key: value for key, value in scores.items() if value == value}


def format_cluster_scores(scores: dict[str, float], classes: Sequence[str], *, title: str) -> str:
    """Return the scores as a table in plain text; ``title`` says of simulated data that they are."""
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for variant in VARIANTS:
        for quality in QUALITIES:
            table.add_column(f"{quality}\n{variant}", justify="right")
    for label, suffix in (
        *((name, f"/{name}") for name in classes),
        ("mean of classes", ""),
        ("mean of events", "/event"),
    ):
        keys = [f"{variant}{suffix}/{quality}" for variant in VARIANTS for quality in QUALITIES]
        table.add_row(label, *(f"{scores[key]:.3f}" if key in scores else "-" for key in keys))
    text = io.StringIO()
    Console(file=text, width=120).print(table)
    return text.getvalue()
