# SPDX-License-Identifier: Apache-2.0
"""Where the predictions of a picture come from: a checkpoint, a results file, a folder of labels, or nowhere."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from pcperc.datasets import SemanticKITTI, collate
from pcperc.engine.config import ConfigError
from pcperc.engine.data import build_test_dataset, configs_with_data
from pcperc.engine.distributed import pick_device
from pcperc.engine.loading import build_model, open_checkpoint
from pcperc.evaluation import (
    read_results,
    read_semantickitti_predictions,
    read_tracking_results,
    rows_to_detections,
    rows_to_tracks,
)
from pcperc.geometry import Detections, MapPrediction, PointLabels, Tracks, invert_rigid, transform_points

Prediction = Detections | PointLabels | MapPrediction
Predict = Callable[[int, dict], Prediction | dict[str, Prediction] | None]


class OpenedPredictions(NamedTuple):
    """A data set and where the predictions of its samples come from."""

    cfg: Config
    dataset: Any
    predict: Predict
    trained_on_simulated: bool = False  # of a checkpoint; files of results do not say


def open_predictions(
    config: Path,
    *,
    checkpoint: Path | None = None,
    results: Path | None = None,
    split: str | None = None,
    data_root: str | None = None,
    device: str | None = None,
) -> OpenedPredictions:
    """Return the config, the data set and what gives the predictions of its samples: None for each without a source.

    Args:
        config: has the data set. checkpoint: makes the predictions, on ``device``.
        results: a results file of detections or tracks, or a folder of SemanticKITTI's label files.
        split: default: the one that the config tests on. data_root: where the data set is now.
    Raises:
        CheckpointError, ConfigError, DataMissing, DeviceError, ValueError: see there; ConfigError also where no
            data set of the config fits the results.
    """
    if checkpoint is not None:
        on_device = pick_device(device)
        opened = open_checkpoint(checkpoint, config, data_root=data_root)
        cfg = Config(dict(opened.cfg.items()))
        dataset = build_test_dataset(cfg, split)
        predict = _from_model(build_model(opened, on_device), dataset)
        return OpenedPredictions(cfg, dataset, predict, trained_on_simulated=opened.simulated)
    candidates = configs_with_data(config, data_root)
    if results is None:
        cfg = candidates[0]
        return OpenedPredictions(cfg, build_test_dataset(cfg, split), lambda index, sample: None)
    if results.is_dir():
        return _with_label_files(results, config, candidates, split)
    rows, tracked = _read_any_results(results)
    for cfg in candidates:
        dataset = build_test_dataset(cfg, split)
        if all(dataset.read_record(index)["sample_token"] in rows for index in range(len(dataset))):
            predict = (TrackPredictions if tracked else _from_results)(rows, dataset)
            return OpenedPredictions(cfg, dataset, predict)
    raise ConfigError(
        f"{results} must hold every sample of {split or 'the test split'} of {config}, "
        f"but lacks some; --split and --data-root choose other data"
    )


def _read_any_results(path: Path) -> tuple[dict[str, list[dict]], bool]:
    """Return the rows of a results file, and whether they are tracks; the error of a broken one is of its own kind."""
    try:
        return read_results(path), False
    except ValueError as error:
        if "detection_" not in str(error):
            raise
        return read_tracking_results(path), True


def _with_label_files(folder: Path, config: Path, candidates: Sequence[Config], split: str | None) -> OpenedPredictions:
    """Take the predictions that tools/test.py wrote into a folder for SemanticKITTI."""
    for cfg in candidates:
        dataset = build_test_dataset(cfg, split)
        if isinstance(dataset, SemanticKITTI):
            return OpenedPredictions(cfg, dataset, _from_label_files(folder, dataset))
    raise ConfigError(f"{folder}: a folder must be of SemanticKITTI predictions, {config} has none")


def _from_model(model: nn.Module, dataset: Any) -> Predict:
    def predict(index: int, _sample: dict) -> Prediction | dict[str, Prediction]:
        with torch.inference_mode():
            result = model.test_step(collate([dataset[index]]))[0]
        if isinstance(result, dict):
            return {task: value.to("cpu") for task, value in result.items()}
        return result.to("cpu")

    return predict


def _from_results(results: dict[str, list[dict]], dataset: Any) -> Predict:
    def predict(_index: int, sample: dict) -> Detections:
        lidar2global = sample["ego2global"] @ sample["lidar2ego"]
        return rows_to_detections(results[sample["sample_token"]], lidar2global, classes=dataset.classes)

    return predict


class TrackPredictions:
    """The tracks of a results file, and where each of them was in the samples of its scene before."""

    def __init__(self, results: dict[str, list[dict]], dataset: Any) -> None:
        self.results, self.dataset = results, dataset
        self._records = [dataset.read_record(index) for index in range(len(dataset))]

    def __call__(self, index: int, _sample: dict) -> Tracks:
        rows = self.results[self._records[index]["sample_token"]]
        return rows_to_tracks(rows, self._lidar2global(index), classes=self.dataset.classes)

    def trails(self, index: int) -> dict[int, np.ndarray]:
        """Return `Frame.trails` of a sample."""
        own = self._records[index]
        times = [(r["timestamp_us"], i) for i, r in enumerate(self._records) if r["scene_name"] == own["scene_name"]]
        trails: dict[int, list] = {}
        for _, earlier in sorted(time for time in times if time[0] <= own["timestamp_us"]):
            tracks = rows_to_tracks(
                self.results[self._records[earlier]["sample_token"]], np.eye(4), classes=self.dataset.classes
            ).numpy()
            for number, box in zip(tracks.ids.tolist(), tracks.boxes, strict=True):
                trails.setdefault(number, []).append(box[:3])
        to_lidar = invert_rigid(self._lidar2global(index))
        return {number: transform_points(np.array(places, np.float64), to_lidar) for number, places in trails.items()}

    def _lidar2global(self, index: int) -> np.ndarray:
        record = self._records[index]
        return np.array(record["ego2global"]) @ np.array(record["lidar2ego"])


def _from_label_files(folder: Path, dataset: SemanticKITTI) -> Predict:
    def predict(_index: int, sample: dict) -> PointLabels:
        labels = read_semantickitti_predictions(folder, sample["sample_token"], label_map=dataset.label_map)
        return PointLabels(torch.from_numpy(labels), torch.ones(len(labels)))

    return predict
