# SPDX-License-Identifier: Apache-2.0
"""MMEngine metric of calorimeter clusters: it collects matches over all processes, and writes scores and showers."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log

from pcperc.evaluation.by_sample import MetricBySample
from pcperc.evaluation.cluster_response import ClusterTable, cluster_table, curve, left_out, segment_centres
from pcperc.evaluation.cluster_scores import cluster_scores, count_event, format_cluster_scores
from pcperc.evaluation.clusters import match_clusters
from pcperc.files import write_arrays, write_text
from pcperc.geometry import HitClusters
from pcperc.geometry.calorimeter import HIT_CLASSES, class_advice
from pcperc.registry import METRICS
from pcperc.simulated import is_simulated_root

SCORES_NAME, TABLE_NAME = "cluster_scores.json", "cluster_table.npz"
ENERGY_EDGES = (1.0, 3.0, 10.0, 20.0, 40.0, 80.0, 200.0)  # GeV that a shower left in hits
DISTANCE_EDGES = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)  # cm between centres of showers


@METRICS.register_module()
class CalorimeterMetric(MetricBySample):
    """SQ, RQ and PQ by hits and by energy; efficiency, fake rate, response and resolution.

    Args:
        output_dir: receives cluster_scores.json with scores and curves, of all showers and by class, and
            cluster_table.npz, the showers one by one, for `read_cluster_table`; None keeps the numbers alone.
        classes: names of the classes.
    """

    def __init__(self, *, output_dir: str | Path | None = None, classes: Sequence[str] = HIT_CLASSES) -> None:
        super().__init__()
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.classes = tuple(classes)

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[HitClusters]) -> None:
        """Match the predictions of a batch, one entry a sample of ``data_batch["samples"]``."""
        events = data_batch["inputs"]["hits"]
        if len(events) != len(data_samples):
            raise ValueError(
                f"CalorimeterMetric: data_samples must have {len(events)} entries, got {len(data_samples)}"
            )
        for hits, sample, found in zip(events, data_batch["samples"], data_samples, strict=True):
            token, found = sample["sample_token"], found.numpy()
            truth = []
            for key in ("class", "instance"):
                if key not in sample:
                    raise ValueError(
                        f"CalorimeterMetric: sample {token} must have '{key}' to be scored, but has none"
                        + class_advice(sample)
                    )
                truth.append(torch.as_tensor(sample[key]).cpu().numpy())
            if not len(truth[0]) == len(truth[1]) == len(found) == len(hits):
                lengths = [len(values) for values in (*truth, found)]
                raise ValueError(
                    f"CalorimeterMetric: sample {token} must have class, instance and prediction of {len(hits)} hits, "
                    f"got {lengths}"
                )
            hits = torch.as_tensor(hits).cpu().numpy()
            partition = (*truth, found.labels, found.instances)
            counts = count_event(*partition, hits[:, 0], num_classes=len(self.classes))
            self.results.append((token, counts, _table(partition, hits, token)))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Score (sample_token, counts, table) of each sample."""
        scores = cluster_scores([counts for _, counts, _ in results], self.classes)
        table = ClusterTable.joined([table for _, _, table in results])
        meta = self.dataset_meta or {}
        simulated = " (simulated, GFlash)" if is_simulated_root(meta.get("root")) else ""
        title = f"calorimeter clusters, {len(results)} events {meta.get('split', '')}".strip() + simulated
        print_log("\n" + format_cluster_scores(scores, self.classes, title=title), logger="current", level=logging.INFO)
        for suffix, part in {"": table, **{f"/{k}": v for k, v in table.by_class(self.classes).items()}}.items():
            rates = {"efficiency": part.found, "fake_rate": part.fake}
            scores |= {f"{name}{suffix}": float(flags.mean()) for name, flags in rates.items() if len(flags)}
        if self.output_dir is not None:
            self._write(scores, table, title, len(results))
        return scores

    def _write(self, scores: dict[str, float], table: ClusterTable, title: str, events: int) -> None:
        summary = {"title": title, "classes": self.classes, "num_events": events, "scores": scores}
        summary["curves"] = _curves(table)
        summary["curves_by_class"] = {name: _curves(part) for name, part in table.by_class(self.classes).items()}
        write_text(self.output_dir / SCORES_NAME, json.dumps(summary, indent=1))
        write_arrays(self.output_dir / TABLE_NAME, table._asdict())


def read_cluster_table(path: str | Path) -> ClusterTable:
    """Read the table of showers that `CalorimeterMetric` wrote.

    Raises:
        ValueError: it lacks a column, as those that were written before there were classes and events in them.
    """
    with np.load(path, allow_pickle=False) as file:
        missing = sorted(set(ClusterTable._fields) - set(file.files))
        if missing:
            raise ValueError(f"cluster table {path} must have {', '.join(ClusterTable._fields)}, but lacks {missing}")
        return ClusterTable(**{name: file[name] for name in ClusterTable._fields})


def _curves(table: ClusterTable) -> dict[str, dict]:
    """Return the curves of a table against energy and distance, for JSON."""
    curves = {}
    for against, bins in {"energy": ENERGY_EDGES, "nearest": DISTANCE_EDGES}.items():
        values = curve(table, bins, against=against)._asdict()
        outside = left_out(table, bins, against=against)._asdict()
        values = {name: [_plain(v) for v in row] for name, row in values.items()}
        curves[against] = {"edges": bins, **values, "left_out": outside}
    return curves


def _table(partition: tuple[np.ndarray, ...], hits: np.ndarray, token: str) -> ClusterTable:
    """Return the segments of an event, matched by energy."""
    energy, xyz = hits[:, 0], hits[:, 5:8]
    matches = match_clusters(*partition, energy, by_energy=True)
    truth = segment_centres(matches.truth, *partition[:2], energy, xyz)
    predicted = segment_centres(matches.predicted, *partition[2:], energy, xyz)
    return cluster_table(matches, truth, predicted, event=token)


def _plain(value: float) -> float | None:
    return None if value != value else float(value)
