# SPDX-License-Identifier: Apache-2.0
"""Efficiency, fake rate, response and resolution of clusters against energy and against the nearest other shower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pcperc.evaluation.clusters import Matches, Segments

_DTYPES = {"found": bool, "fake": bool, "label": np.int64, "fake_label": np.int64, "event": str, "fake_event": str}


class ClusterTable(NamedTuple):
    """True and predicted segments of any number of events, S and T of them.

    Attributes:
        energy: (S,) energy of the hits of each true segment, GeV. nearest: (S,) cm to the nearest other true segment of
            its event, infinite where there is none. found: (S,) bool.
        response: (S,) energy of the matched predicted segment over ``energy``; NaN where not found or without energy.
        fake_energy, fake_nearest: (T,) of every predicted segment: its energy and its distance to the nearest true
            segment but the matched one. fake: (T,) bool, whether it matches nothing.
        label, event: (S,) the class of each true segment, int64, and the name of its event, text. fake_label,
            fake_event: (T,), of every predicted segment.
    """

    energy: np.ndarray
    nearest: np.ndarray
    found: np.ndarray
    response: np.ndarray
    fake_energy: np.ndarray
    fake_nearest: np.ndarray
    fake: np.ndarray
    label: np.ndarray
    event: np.ndarray
    fake_label: np.ndarray
    fake_event: np.ndarray

    @staticmethod
    def joined(tables: Sequence[ClusterTable]) -> ClusterTable:
        """Return the rows of several events; of none, an empty table."""
        empty = ClusterTable(*(np.zeros(0, _DTYPES.get(name, float)) for name in ClusterTable._fields))
        return ClusterTable(*(np.concatenate(columns) for columns in zip(empty, *tables, strict=True)))

    def of_class(self, label: int) -> ClusterTable:
        """Return the true and the predicted segments of one class; the nearest ones are still of any class."""
        rows = self.label == label, self.fake_label == label
        named = zip(self._fields, self, strict=True)
        return ClusterTable(*(column[rows[name.startswith("fake")]] for name, column in named))

    def by_class(self, classes: Sequence[str]) -> dict[str, ClusterTable]:
        """Return `of_class` by name for the classes that have a true or a predicted segment."""
        tables = {name: self.of_class(label) for label, name in enumerate(classes)}
        return {name: table for name, table in tables.items() if len(table.label) + len(table.fake_label)}


def cluster_table(
    matches: Matches, truth_centres: np.ndarray, predicted_centres: np.ndarray, *, event: str = ""
) -> ClusterTable:
    """Describe the segments of an event.

    Args:
        matches: of `match_clusters`. truth_centres, predicted_centres: (S, 2 or 3), (T, 2 or 3) cm, as of
            `segment_centres`. event: its name.
    Raises:
        ValueError: centres of another number than segments.
    """
    for name, centres, segments in (
        ("truth_centres", truth_centres, matches.truth),
        ("predicted_centres", predicted_centres, matches.predicted),
    ):
        if centres.ndim != 2 or len(centres) != len(segments.hits):
            raise ValueError(f"cluster_table: {name} must be ({len(segments.hits)}, D), got {centres.shape}")
    found, energy = matches.matched >= 0, matches.truth.energy
    reached = np.append(matches.predicted.energy, 0.0)[matches.matched]  # the last one for -1
    response = np.divide(reached, energy, out=np.full(len(energy), np.nan), where=found & (energy > 0))
    own = np.arange(len(energy))
    nearest = _nearest(truth_centres, truth_centres, own)
    fake_nearest = _nearest(predicted_centres, truth_centres, matches.matched_truth)
    fakes = (matches.predicted.energy, fake_nearest, matches.matched_truth < 0)
    kinds = [column for s in matches[:2] for column in (s.label.astype(np.int64), np.full(len(s.label), event))]
    return ClusterTable(energy, nearest, found, response, *fakes, *kinds)


def segment_centres(
    segments: Segments, label: np.ndarray, instance: np.ndarray, energy: np.ndarray, xyz: np.ndarray
) -> np.ndarray:
    """Return the mean places of segments, weighted by energy (by hits where a segment has none).

    Args:
        segments: S of them, of the partition ``label``, ``instance``, (N,) each. energy: (N,). xyz: (N, D).
    Returns:
        (S, D) float64.
    """
    centres = np.zeros((len(segments.hits), xyz.shape[1]))
    inside = np.flatnonzero(np.asarray(instance) >= 0)
    rows = np.stack([np.asarray(label)[inside], np.asarray(instance)[inside]], axis=1)
    index = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    weight = np.where(segments.energy[index] > 0, np.asarray(energy, np.float64)[inside], 1.0)
    total = np.bincount(index, weights=weight, minlength=len(centres))
    for axis in range(xyz.shape[1]):
        weighted = weight * np.asarray(xyz, np.float64)[inside, axis]
        centres[:, axis] = np.bincount(index, weights=weighted, minlength=len(centres)) / np.maximum(total, 1e-300)
    return centres


def _nearest(places: np.ndarray, others: np.ndarray, but: np.ndarray) -> np.ndarray:
    """Return the distance of each place to the nearest of ``others`` except the one that ``but`` names (-1: none)."""
    if not len(places) or not len(others):
        return np.full(len(places), np.inf)
    apart = np.linalg.norm(places[:, None] - others[None], axis=2)
    named = np.flatnonzero(but >= 0)
    apart[named, but[named]] = np.inf
    return apart.min(axis=1)


class Curve(NamedTuple):
    """Values by bin, (B,) float64 each; NaN where a bin has nothing to say.

    Attributes:
        showers: number of true segments. efficiency: part of them that was found.
        fake_rate: part of the predicted segments in the bin that match nothing.
        response: mean of response. resolution: standard deviation of response over its mean, from two on.
    """

    showers: np.ndarray
    efficiency: np.ndarray
    fake_rate: np.ndarray
    response: np.ndarray
    resolution: np.ndarray


def curve(table: ClusterTable, edges: Sequence[float], *, against: str = "energy") -> Curve:
    """Bin a table.

    Args:
        table: of `cluster_table`. edges: B + 1 increasing edges; a bin holds its lower edge, the last one its upper
            edge too. What is outside is in no bin: `left_out` counts it.
        against: "energy" (of the true segment; for fakes of the predicted one) or "nearest".
    Raises:
        ValueError: another ``against``, or edges that do not increase.
    """
    edges, of_truth, of_predicted = _binned("curve", table, edges, against)
    rows = []
    for index in range(len(edges) - 1):
        here, predicted = of_truth == index, of_predicted == index
        response = table.response[here]
        response = response[~np.isnan(response)]
        mean = response.mean() if len(response) else np.nan
        spread = response.std(ddof=1) / mean if len(response) > 1 and mean > 0 else np.nan
        rows.append((here.sum(), _part(table.found[here]), _part(table.fake[predicted]), mean, spread))
    return Curve(*np.array(rows, np.float64).T)


class CurveErrors(NamedTuple):
    """How much each point of a curve is worth, (B,) each.

    Attributes:
        entries: int64, how many showers, or clusters of the fake rate, a point is the mean or deviation of.
        below, above: float64, lengths of an error bar of one standard deviation; NaN where there is no point, or where
            its entries do not tell its error.
    """

    entries: np.ndarray
    below: np.ndarray
    above: np.ndarray


def curve_errors(table: ClusterTable, edges: Sequence[float], *, against: str = "energy") -> dict[str, CurveErrors]:
    """Return the errors of what `curve` says, by the names of its values, called with the same arguments.

    Of n entries of a bin:

    - efficiency and fake rate p: Wilson's interval at z = 1 (68 %),
      ``(p + 1 / 2n -+ sqrt(p (1 - p) / n + 1 / 4n^2)) / (1 + 1 / n)``, which has a length at 0 and at 1 too;
    - response: ``s / sqrt(n)``, s being the standard deviation over n - 1, from n = 2 on;
    - resolution r: ``r sqrt(1 / (2 (n - 1)) + r^2 / n)``, as of normal responses, from n = 2 on.

    Raises:
        ValueError: as of `curve`.
    Source: Wilson, Probable inference, JASA 22 (1927) 209; the others by linear propagation of errors.
    """
    values = curve(table, edges, against=against)
    _, of_truth, of_predicted = _binned("curve_errors", table, edges, against)
    bins = np.arange(len(values.showers))[:, None]
    showers, clusters, reached = (
        (bins == place).sum(axis=1) for place in (of_truth, of_predicted, of_truth[~np.isnan(table.response)])
    )
    several = np.where(reached > 1, reached, np.nan)
    of_mean = values.resolution * values.response / np.sqrt(several)
    of_resolution = values.resolution * np.sqrt(1 / (2 * (several - 1)) + values.resolution**2 / several)
    return {
        "efficiency": _wilson(values.efficiency, showers),
        "fake_rate": _wilson(values.fake_rate, clusters),
        "response": CurveErrors(reached, of_mean, of_mean),
        "resolution": CurveErrors(reached, of_resolution, of_resolution),
    }


class LeftOut(NamedTuple):
    """How many segments of a table are in no bin of a curve.

    Attributes:
        showers, all_showers: true segments in no bin, and all. lone: those of the former that are left out because
            their event has no other shower; 0 against energy.
        clusters, all_clusters: predicted segments in no bin, which the fake rate lacks, and all.
    """

    showers: int
    all_showers: int
    lone: int
    clusters: int
    all_clusters: int

    def of_showers(self) -> str:
        """Say how many showers are left out: ``"3 of 40 showers (2 alone)"``."""
        return f"{self.showers} of {self.all_showers} showers" + f" ({self.lone} alone)" * (self.lone > 0)

    def of_clusters(self) -> str:
        """Say how many predicted clusters are left out: ``"1 of 50 clusters"``."""
        return f"{self.clusters} of {self.all_clusters} clusters"


def left_out(table: ClusterTable, edges: Sequence[float], *, against: str = "energy") -> LeftOut:
    """Count what `curve` leaves out, called with the same arguments.

    Raises:
        ValueError: as of `curve`.
    """
    edges, *places = _binned("left_out", table, edges, against)
    truth, predicted = ((place < 0) | (place >= len(edges) - 1) for place in places)
    lone = truth & np.isinf(table.nearest) if against == "nearest" else np.zeros(0, bool)
    return LeftOut(int(truth.sum()), len(truth), int(lone.sum()), int(predicted.sum()), len(predicted))


def _binned(
    who: str, table: ClusterTable, edges: Sequence[float], against: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the checked edges and the bin of each true and each predicted segment; below 0 or B is none."""
    edges = np.asarray(edges, np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"{who}: edges must be two or more increasing numbers, got {edges.tolist()}")
    if against not in ("energy", "nearest"):
        raise ValueError(f"{who}: against must be energy or nearest, got {against!r}")
    return edges, _bins(getattr(table, against), edges), _bins(getattr(table, f"fake_{against}"), edges)


def _bins(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    index = np.searchsorted(edges, values, side="right") - 1
    return np.where(values == edges[-1], len(edges) - 2, index)


def _wilson(part: np.ndarray, entries: np.ndarray) -> CurveErrors:
    """Return the errors of parts (B,) of so many entries; NaN where there are none."""
    n = np.where(entries > 0, entries, np.nan)
    middle = (part + 1 / (2 * n)) / (1 + 1 / n)
    half = np.sqrt(part * (1 - part) / n + 1 / (4 * n * n)) / (1 + 1 / n)
    # Rounding must not make a length negative at 0 and 1, where the interval ends at the point.
    return CurveErrors(entries, np.maximum(part - middle + half, 0.0), np.maximum(middle + half - part, 0.0))


def _part(flags: np.ndarray) -> float:
    return float(flags.mean()) if len(flags) else float("nan")
