# SPDX-License-Identifier: Apache-2.0
"""Clusters of the hits of calorimeter events that belong to no data set."""

from pathlib import Path

import numpy as np

from pcperc.datasets.calorimeter import read_event
from pcperc.files import write_arrays
from pcperc.geometry import HitClusters
from pcperc.geometry.calorimeter import HIT_CLASSES
from pcperc.models.calorimeter import HitClusterer
from pcperc.registry import MODELS, resolve_type


def clusters_hits(model_cfg: dict) -> bool:
    """True where the model of a config finds clusters of hits."""
    return resolve_type(model_cfg["type"], MODELS) is HitClusterer


def hits_sample(path: str | Path) -> dict:
    """Read a file of hits, of either layout of `read_event`, as a sample without truth."""
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"{path}: must be an .npz file of hits")
    return {"sample_token": str(path), "scene_name": "", "hits": read_event(path)["hits"]}


def describe_clusters(found: HitClusters, hits: np.ndarray) -> list[dict]:
    """Return a row for each cluster, the one with the most energy first: GeV, and cm in the frame of the file."""
    found = found.numpy()
    rows = []
    for number in range(found.instances.max(initial=-1) + 1):
        own = found.instances == number
        energy = hits[own, 0].astype(np.float64)
        weight = energy if energy.sum() > 0 else np.ones_like(energy)
        centre = weight @ hits[own, 5:8].astype(np.float64) / weight.sum()
        rows.append(
            {
                "cluster": number,
                "class": HIT_CLASSES[found.labels[own][0]],
                "energy": round(float(energy.sum()), 4),
                "hits": int(own.sum()),
                "center": [round(value, 3) for value in centre.tolist()],
                "mean_score": round(float(found.scores[own].mean()), 4),
            }
        )
    return rows


def write_clusters(path: Path, found: HitClusters, rows: list[dict]) -> None:
    """Write what is said of each hit: ``cluster`` (-1 for none), ``class`` and ``score``, (N,); ``energy`` (K,) GeV."""
    found = found.numpy()
    arrays = {"cluster": found.instances, "class": found.labels, "score": found.scores}
    arrays["energy"] = np.array([row["energy"] for row in rows], np.float64)
    write_arrays(path, arrays)
