# SPDX-License-Identifier: Apache-2.0
"""Files that infer.py read, with what it wrote of them, as a data set to look at."""

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from pcperc.datasets import MAP_CLASSES, CalorimeterHits, ModelNet40, NuScenesDataset, NuScenesLidarSeg
from pcperc.datasets.cloud_files import NUMPY_ERRORS, numpy_reason
from pcperc.datasets.modelnet40 import CATEGORIES as MODELNET_CATEGORIES
from pcperc.engine.config import ConfigError, load_config
from pcperc.engine.file_samples import Reading, classes_of, file_sample, label_map_of
from pcperc.engine.prediction_sources import Prediction
from pcperc.engine.scene_visualizing import mask_drawing
from pcperc.geometry import CloudClass, Detections, HitClusters, MapPrediction, PointLabels, rotation_z
from pcperc.registry import DATASETS, resolve_type

_BEGINNING = re.compile(rb'\s*\{\s*"file"\s*:')  # how result files of infer.py begin, and no others
LIDAR_HEIGHT = 1.84  # metres above the road of nuScenes' vehicle


class InferredFiles:
    """The files of some results of infer.py as samples without truth; ``predict`` says what was found in each.

    Args:
        results: files ``<name>.json`` that infer.py wrote; what it wrote beside them is read when it is asked for.
        dataset: of a config, of whose kind of data the checkpoint was.
    Attributes:
        kind: class of that data set. classes: names of its boxes or points. tokens: the names of the files.
    Raises:
        ConfigError: a result is of another kind of data, or names classes that the data set has not.
        ValueError: a result that cannot be read.
    """

    def __init__(self, results: Sequence[Path], dataset: dict):
        self.results, self.dataset = list(results), dataset
        self.kind = resolve_type(dataset["type"], DATASETS)
        self.label_map = label_map_of(dataset)
        self.classes = tuple(classes_of(dataset) if self.label_map is None else self.label_map.classes)
        self.metainfo = {"map_classes": MAP_CLASSES}
        self.records = [_read_record(path) for path in self.results]
        self.tokens = [Path(record["file"]).name for record in self.records]
        for path, record in zip(self.results, self.records, strict=True):
            self._check_kind(path, record)
            self._check_classes(path, record)

    def __len__(self) -> int:
        return len(self.results)

    def read_sample(self, index: int) -> dict:
        """Return a file as a sample; of several sweeps the points of the newest, where no point has a label.

        Raises:
            FileNotFoundError, ValueError: a file is missing or holds something else; the message names it.
        """
        path, record = self.results[index], self.records[index]
        reading = Reading(**{name: record[name] for name in Reading.__dataclass_fields__ if name in record})
        for file in (record["file"], reading.calibration):
            if file is not None and not Path(file).is_file():
                raise FileNotFoundError(f"{file}: is missing, of which {path} is; call where infer.py was called")
        sample = file_sample(record["file"], self.dataset, reading, of_hits="clusters" in record)
        sample["sample_token"] = self.tokens[index]
        if self.kind in (NuScenesDataset, NuScenesLidarSeg):  # x to the right; pictures have what is ahead above
            sample["lidar2ego"] = rotation_z(-math.pi / 2)
            sample["lidar2ego"][2, 3] = LIDAR_HEIGHT
        if "detections" in record and "classes" not in record and sample["points"].shape[1] > 4:
            time_lag = sample["points"][:, 4]
            sample["points"] = sample["points"][time_lag == time_lag.min()]
        return sample

    def predict(self, index: int, sample: dict) -> Prediction | HitClusters | CloudClass | dict[str, Prediction] | None:
        """Return what was found in a file: as a model returns it, but points have no scores.

        Raises:
            FileNotFoundError, ValueError: a file beside the result is missing, damaged or of another number of points.
        """
        path, record = self.results[index], self.records[index]
        parts = {key: read(self, path, record[key], sample) for key, read in _PARTS.items() if key in record}
        return next(iter(parts.values())) if len(parts) == 1 else parts or None

    def trained_on_simulated(self, index: int) -> bool:
        """Return whether the network of a result was trained on simulated data; False where the result does not say."""
        return bool(self.records[index].get("trained_on_simulated_data"))

    def _check_kind(self, path: Path, record: dict) -> None:
        of = self.kind.__name__
        for key, kind in (("clusters", CalorimeterHits), ("class", ModelNet40)):
            if key in record and not issubclass(self.kind, kind):
                raise ConfigError(f"{path}: has '{key}', which is of {kind.__name__}, but the data set is {of}")
            if key not in record and issubclass(self.kind, kind):
                got = ", ".join(f"'{part}'" for part in _PARTS if part in record) or "nothing"
                raise ConfigError(f"{path}: must have '{key}', as files of {of} do, got {got}")

    def _check_classes(self, path: Path, record: dict) -> None:
        by_point = self.label_map is not None
        of_boxes, of_points = ((), self.classes) if by_point else (self.classes, ())
        for key, what, known in (("detections", "boxes", of_boxes), ("classes", "points", of_points)):
            named = {row["class"] for row in record.get(key, ())}
            if key in record and (named - set(known) or not known):
                got = ", ".join(sorted(named - set(known))) or "none"
                has = f"classes of {what}: {', '.join(known)}" if known else f"no classes of {what}"
                raise ConfigError(f"{path}: has {what} of {got}, but {self.kind.__name__} has {has}")


def find_results(path: Path) -> list[Path]:
    """Return the results of infer.py that a path names, the file itself or all in a folder; none of others."""
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    return [file for file in files if _BEGINNING.match(_first_bytes(file))]


def open_results(results: Sequence[Path], config: Path) -> tuple[Config, InferredFiles]:
    """Return a config, or the first of its profiles, whose data set has the classes of the results, with the files.

    No data need be there. Raises ConfigError where none has them, ValueError as `InferredFiles`.
    """
    own = load_config(config)
    first_problem = None
    for cfg in (own, *(load_config(config.parent / name) for name in own.get("profiles", {}).values())):
        try:
            return cfg, InferredFiles(results, cfg.test_dataloader.dataset)
        except ConfigError as problem:
            first_problem = first_problem or problem
    raise ConfigError(f"{config}: does not fit; {first_problem}") from first_problem


def kind_of(dataset: Any) -> type:
    """Return the class of a data set, or of the one whose kind files are."""
    return dataset.kind if isinstance(dataset, InferredFiles) else type(dataset)


def _first_bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(64)


def _read_record(path: Path) -> dict:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        named = [row["class"] for key in ("detections", "classes") for row in record.get(key, ())]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: must be a result of tools/infer.py, but cannot be read: {error!r}") from error
    if not isinstance(record["file"], str) or not all(isinstance(name, str) for name in named):
        raise ValueError(f"{path}: must be a result of tools/infer.py, with the names of 'file' and each 'class'")
    return record


def _detections(files: InferredFiles, path: Path, rows: list[dict], sample: dict) -> Detections:
    try:
        boxes = [(*row["center"], *row["size_lwh"], row["yaw"], *row["velocity"]) for row in rows]
        scores = torch.tensor([row["score"] for row in rows], dtype=torch.float32)
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(len(rows), 9)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: detections must be as tools/infer.py writes them: {error!r}") from error
    return Detections(boxes, scores, torch.tensor([files.classes.index(row["class"]) for row in rows]).long())


def _point_labels(files: InferredFiles, path: Path, rows: list[dict], sample: dict) -> PointLabels:
    beside = path.with_suffix(".label")
    recorded = np.fromfile(_must_exist(beside, path), "<u4")
    _check_count(beside, len(recorded), len(sample["points"]), path)
    labels = torch.from_numpy(files.label_map.to_train(recorded, where=beside))
    return PointLabels(labels, torch.ones(len(labels)))


def _clusters(files: InferredFiles, path: Path, rows: list[dict], sample: dict) -> HitClusters:
    beside = path.with_suffix(".clusters.npz")
    arrays = _load(beside, path, lambda file: {name: file[name] for name in ("class", "cluster", "score")})
    _check_count(beside, len(arrays["cluster"]), len(sample["hits"]), path)
    return HitClusters(*(torch.from_numpy(arrays[name]) for name in ("class", "cluster", "score")))


def _map(files: InferredFiles, path: Path, rows: list[dict], sample: dict) -> MapPrediction:
    beside, drawing = path.with_suffix(".map.npy"), mask_drawing(files.dataset)
    if drawing is None:
        raise ConfigError(f"{path}: is of a map, for which {files.kind.__name__} of the config has no DrawMapMasks")
    probabilities = _load(beside, path, lambda array: array)
    if probabilities.shape != (len(MAP_CLASSES), *drawing.grid.shape):
        wanted = (len(MAP_CLASSES), *drawing.grid.shape)
        raise ConfigError(f"{beside}: must be {wanted}, as the config's DrawMapMasks has it, got {probabilities.shape}")
    return MapPrediction(torch.from_numpy(probabilities), drawing.grid)


def _cloud_class(files: InferredFiles, path: Path, rows: list[dict], sample: dict) -> CloudClass | None:
    if not rows:
        return None
    if rows[0].get("class") not in MODELNET_CATEGORIES:
        raise ValueError(f"{path}: class must be one of ModelNet40, got {rows[0].get('class')!r}")
    return CloudClass(MODELNET_CATEGORIES.index(rows[0]["class"]), float(rows[0]["score"]))


# By the keys of a result file, in whose order a model with several heads tells them.
_PARTS: dict[str, Callable[[InferredFiles, Path, list[dict], dict], Any]] = {
    "detections": _detections,
    "classes": _point_labels,
    "clusters": _clusters,
    "map": _map,
    "class": _cloud_class,
}


def _load(beside: Path, path: Path, take: Callable[[Any], Any]) -> Any:
    with open(_must_exist(beside, path), "rb") as file:
        try:
            return take(np.load(file, allow_pickle=False))
        except (*NUMPY_ERRORS, KeyError) as error:
            raise ValueError(f"{beside}: cannot be read ({numpy_reason(error)})") from error


def _must_exist(beside: Path, path: Path) -> Path:
    if not beside.is_file():
        raise FileNotFoundError(f"{beside}: is missing, which tools/infer.py wrote beside {path.name}")
    return beside


def _check_count(beside: Path, got: int, expected: int, path: Path) -> None:
    if got != expected:
        raise ValueError(f"{beside}: must be of the {expected} points of the file that {path.name} names, got {got}")
