# SPDX-License-Identifier: Apache-2.0
"""Predictions in the layouts that the servers and tools of the data sets take, and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pcperc.datasets import SemanticKITTI
from pcperc.datasets.label_map import LabelMap
from pcperc.datasets.semantickitti import read_labels
from pcperc.evaluation.segmentation import confusion_matrix
from pcperc.files import write_text, written_whole
from pcperc.geometry import PointLabels


def semantickitti_prediction_path(folder: str | Path, sample_token: str) -> Path:
    """Return where the prediction of the scan ``<sequence>/<frame>`` lies."""
    sequence, _, frame = sample_token.partition("/")
    if not frame:
        raise ValueError(f"SemanticKITTI: sample_token must be '<sequence>/<frame>', got {sample_token!r}")
    return Path(folder) / "sequences" / sequence / "predictions" / f"{frame}.label"


def write_semantickitti_predictions(
    folder: str | Path, sample_token: str, prediction: PointLabels, *, label_map: LabelMap
) -> Path:
    """Write ``<folder>/sequences/NN/predictions/*.label``: recorded numbers, uint32, one for each recorded point.

    Args:
        folder: the one that is packed and handed in.
        sample_token: "<sequence>/<frame>".
        prediction: train ids; points of which nothing is said are written as 0.
        label_map: leads back to recorded numbers.
    Returns:
        The file.
    Raises:
        ValueError: a label that the map lacks, or another token.
        OSError: it cannot be written; the message names it.
    """
    path = semantickitti_prediction_path(folder, sample_token)
    recorded = label_map.to_recorded(prediction.numpy().labels)
    with written_whole(path) as partial:
        partial.write_bytes(recorded.astype("<u4").tobytes())
    return path


def read_semantickitti_predictions(folder: str | Path, sample_token: str, *, label_map: LabelMap) -> np.ndarray:
    """Return the predicted train ids of a scan, (N,) int64.

    Raises:
        FileNotFoundError, ValueError: the file is missing or truncated, or holds a number that the map lacks.
    """
    path = semantickitti_prediction_path(folder, sample_token)
    return label_map.to_train(read_labels(path)[0], where=f"prediction {path}")


def score_semantickitti_files(folder: str | Path, dataset: SemanticKITTI) -> np.ndarray:
    """Compare the predictions in ``folder`` with the labels of every scan of a data set.

    Returns:
        (19, 20) int64, see `confusion_matrix`.
    Raises:
        FileNotFoundError: a scan has no prediction.
        ValueError: a scan has no labels, or another number of points than its prediction; the message names the file.
    """
    total = np.zeros((len(dataset.classes), len(dataset.classes) + 1), np.int64)
    for index, token in enumerate(dataset.tokens):
        truth = dataset.read_point_labels(index)
        if truth is None:
            raise ValueError(f"score_semantickitti_files: scan {token} must have labels, but has none")
        predicted = read_semantickitti_predictions(folder, token, label_map=dataset.label_map)
        if len(predicted) != len(truth):
            path = semantickitti_prediction_path(folder, token)
            raise ValueError(f"prediction {path} must have {len(truth)} labels, one a point, got {len(predicted)}")
        total += confusion_matrix(truth, predicted, num_classes=len(dataset.classes))
    return total


def write_lidarseg_predictions(
    folder: str | Path, lidar_token: str, prediction: PointLabels, *, split: str, label_map: LabelMap
) -> Path:
    """Write ``<folder>/lidarseg/<split>/<token>_lidarseg.bin``: 1 to 16, one byte for each recorded point.

    Args:
        folder: the one that is packed and handed in; `write_lidarseg_submission` adds what else it needs.
        lidar_token: of the key sweep's sample_data row.
        prediction: train ids; points of which nothing is said are written as 0, which the devkit refuses.
        split: train, val, test or mini_*.
        label_map: leads to the numbers of the challenge.
    Returns:
        The file.
    Raises:
        ValueError: a label that the map lacks.
        OSError: it cannot be written; the message names it.
    """
    path = Path(folder) / "lidarseg" / split / f"{lidar_token}_lidarseg.bin"
    with written_whole(path) as partial:
        partial.write_bytes(label_map.to_recorded(prediction.numpy().labels).astype(np.uint8).tobytes())
    return path


def write_lidarseg_submission(folder: str | Path, *, split: str) -> Path:
    """Write ``<folder>/<split>/submission.json``, which says that a network looked at LiDAR alone."""
    used = {f"use_{name}": name == "lidar" for name in ("camera", "lidar", "radar", "map", "external")}
    path = Path(folder) / split / "submission.json"
    write_text(path, json.dumps({"meta": used}, indent=2))
    return path
