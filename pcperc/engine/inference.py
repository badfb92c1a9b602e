# SPDX-License-Identifier: Apache-2.0
"""Predictions for files that belong to no data set: raw points and, where the model has cameras, images; hits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pcperc.datasets import MAP_CLASSES, LabelMap, ModelNet40, collate
from pcperc.engine.cloud_inference import check_category, describe_class, reads_clouds
from pcperc.engine.config import ConfigError
from pcperc.engine.distributed import pick_device
from pcperc.engine.file_samples import Reading, classes_of, file_sample, label_map_of
from pcperc.engine.hit_inference import clusters_hits, describe_clusters, write_clusters
from pcperc.engine.loading import build_model, open_checkpoint
from pcperc.engine.messages import one_line, say
from pcperc.engine.progress import ProgressDisplay
from pcperc.engine.raw_files import row_by_row
from pcperc.files import write_text, written_whole
from pcperc.geometry import IGNORED, CloudClass, Detections, HitClusters, MapPrediction, PointLabels
from pcperc.registry import DATASETS, TRANSFORMS, resolve_type
from pcperc.transforms import DrawMapMasks

MIN_SCORE = 0.1


@dataclass(frozen=True)
class InferOptions:
    """What the command line says; see tools/README.md."""

    config: Path
    checkpoint: Path
    files: Sequence[Path]
    calibration: Sequence[Path] = ()
    out: Path = Path("predictions")
    columns: int | None = None
    intensity_scale: float = 1.0
    min_score: float | None = None  # MIN_SCORE, where the model finds boxes
    category: str | None = None
    fuse: bool = False
    device: str | None = None


def infer(options: InferOptions) -> list[Path]:
    """Detect objects, map the ground or give each point a class, in each file; write ``<out>/<name of the file>.json``.

    The classes of points go into a ``.label`` file beside it: uint32, the recorded number of each point's class. Of the
    hits of a calorimeter the clusters are listed, and ``.clusters.npz`` beside it says the cluster of each hit. The
    probabilities of a map are in ``.map.npy`` beside it, (C, X, Y) float32. Of several files one that cannot be read
    does not stop the others: it is said at once, and an error at the end.

    Returns:
        The files that were written, in the order of ``options.files``.
    Raises:
        ConfigError: no calibration for a model with cameras, or not as many as files; two files of one name; not
            the category that the model is told.
        FileNotFoundError, ValueError: an input file is missing (then none is read) or holds something else; the
            message names it, or all such.
    """
    names = [Path(path).name for path in options.files]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:  # the second result would replace the first
        raise ConfigError(f"files must have different names, got {twice} {names.count(twice)} times")
    device = pick_device(options.device)
    opened = open_checkpoint(options.checkpoint, options.config, compared=("model",))
    dataset = opened.cfg["test_dataloader"]["dataset"]
    needs_images = "camera" in opened.cfg["model"].get("encoders", {})
    calibrations = _calibrations(options, needs_images)
    for path in (*options.files, *(c for c in calibrations if c)):
        if not Path(path).is_file():
            what = "is a folder, name its files" if Path(path).is_dir() else "no such file"
            raise FileNotFoundError(f"{path}: {what}")
    model = build_model(opened, device, fuses=options.fuse)
    transforms = raw_transforms(dataset)
    classes, label_map = classes_of(dataset), label_map_of(dataset)
    of_hits = clusters_hits(opened.cfg["model"])
    category = check_category(dataset, options.category)
    _refuse_idle_options(options, opened.cfg["model"], dataset)
    min_score = MIN_SCORE if options.min_score is None else options.min_score
    written, failed = [], []
    with ProgressDisplay("inferring", len(options.files)) as display:
        for path, calibration in zip(options.files, calibrations, strict=True):
            beside = None if calibration is None else str(calibration)
            reading = Reading(options.columns, options.intensity_scale, category, beside)
            try:
                sample = file_sample(path, dataset, reading, of_hits=of_hits)
                for transform in transforms:
                    sample = transform(sample)
                found = predict(model, sample)
            except (OSError, ValueError) as error:
                if len(options.files) == 1:
                    raise
                failed.append(str(path))
                display.pause()
                say(f"{path} failed: {one_line(error)}")
                display.resume()
                display.advance("")
                continue
            head = {
                "file": str(path),
                **reading.told(),
                "checkpoint": str(options.checkpoint),
                "trained_on_simulated_data": opened.simulated,
            }
            out = options.out / f"{Path(path).name}.json"
            parts, words = _write_beside(found, sample, out, min_score, classes, label_map)
            write_text(out, row_by_row(head, parts))
            written.append(out)
            display.advance(f"{words} in {Path(path).name}")
    say("\n".join(f"{path}" for path in written))
    if failed:
        raise ValueError(f"{len(failed)} of {len(options.files)} files failed, as said above: {', '.join(failed)}")
    return written


def _write_beside(
    found: Any, sample: dict, out: Path, min_score: float, classes: Sequence[str], label_map: LabelMap | None
) -> tuple[dict[str, list[dict]], str]:
    """Write what belongs beside the result file ``out``; return the parts of that file, and a few words on them."""
    parts, text = {}, []
    for result in found.values() if isinstance(found, dict) else [found]:
        if isinstance(result, HitClusters):
            key, rows, words = _write_clusters(result, sample["hits"], out)
        elif isinstance(result, PointLabels):
            key, rows, words = _write_labels(result, label_map, out)
        elif isinstance(result, MapPrediction):
            key, rows, words = _write_map(result, out)
        elif isinstance(result, CloudClass):
            rows = describe_class(result)
            key, words = "class", rows[0]["class"] if rows else "nothing"
        else:
            rows = describe(result.filter(result.scores >= min_score), classes)
            key, words = "detections", f"{len(rows)} objects"
        parts[key] = rows
        text.append(words)
    return parts, ", ".join(text)


@torch.inference_mode()
def predict(
    model: torch.nn.Module, sample: dict
) -> Detections | PointLabels | HitClusters | MapPrediction | CloudClass | dict[str, Detections | MapPrediction]:
    """Return what a model says of one transformed sample, on the CPU, in the recorded LiDAR frame.

    Of a model with several heads a dict by task.
    """
    batch = model.data_preprocessor(collate([sample]), False)
    found = model(**batch, mode="predict")[0]
    return {task: part.to("cpu") for task, part in found.items()} if isinstance(found, dict) else found.to("cpu")


def _write_clusters(found: HitClusters, hits: np.ndarray, out: Path) -> tuple[str, list[dict], str]:
    """Write the cluster of each hit beside ``out``; return the key, rows and words of the result file."""
    rows = describe_clusters(found, hits)
    write_clusters(out.with_suffix(".clusters.npz"), found, rows)
    return "clusters", rows, f"{len(rows)} clusters"


def _write_labels(found: PointLabels, label_map: LabelMap, out: Path) -> tuple[str, list[dict], str]:
    """The same of the class of each point."""
    with written_whole(out.with_suffix(".label")) as partial:
        partial.write_bytes(label_map.to_recorded(found.numpy().labels).astype("<u4").tobytes())
    return "classes", describe_labels(found, label_map), f"{len(found)} points"


def _write_map(found: MapPrediction, out: Path) -> tuple[str, list[dict], str]:
    """The same of the probabilities of a map."""
    with written_whole(out.with_suffix(".map.npy")) as partial, open(partial, "wb") as file:
        np.save(file, found.numpy().probabilities.astype(np.float32))
    return "map", describe_map(found, MAP_CLASSES), "a map"


def describe(detections: Detections, classes: Sequence[str]) -> list[dict]:
    """Return detections as plain data: metres, radians, metres a second, in the LiDAR's frame."""
    rows = []
    for box, score, label in zip(
        detections.boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True
    ):
        x, y, z, length, width, height, yaw, vx, vy = (round(value, 4) for value in box)
        rows.append(
            {
                "class": classes[label],
                "score": round(score, 4),
                "center": [x, y, z],
                "size_lwh": [length, width, height],
                "yaw": yaw,
                "velocity": [vx, vy],
            }
        )
    return rows


def describe_labels(found: PointLabels, label_map: LabelMap) -> list[dict]:
    """Return how many points have each class that occurs, with what number, and the mean probability of it.

    The probability is among all classes of the data set, of parts also those of other categories.
    """
    found = found.numpy()
    rows = []
    for label in np.unique(found.labels[found.labels != IGNORED]):
        own = found.labels == label
        rows.append(
            {
                "class": label_map.classes[label],
                "number": int(label_map.recorded_ids[label]),
                "points": int(own.sum()),
                "mean_score": round(float(found.scores[own].mean()), 4),
            }
        )
    return rows


def describe_map(found: MapPrediction, classes: Sequence[str], *, threshold: float = 0.5) -> list[dict]:
    """Return how many square metres around the vehicle each class has, where its probability reaches the threshold."""
    found = found.numpy()
    square_metres = float(np.prod(found.grid.cell_size))
    cells = (found.probabilities >= threshold).sum(axis=(1, 2))
    return [
        {"class": name, "square_metres": round(float(count) * square_metres, 2)}
        for name, count in zip(classes, cells, strict=True)
    ]


def raw_transforms(dataset: dict) -> list:
    """Return the transforms of a data set's config, without the one that draws a map: raw samples have none."""
    transforms = dataset.get("transforms", ())
    return [TRANSFORMS.build(t) for t in transforms if resolve_type(t["type"], TRANSFORMS) is not DrawMapMasks]


def _refuse_idle_options(options: InferOptions, model: dict, dataset: dict) -> None:
    """Raise ConfigError where an option was given that changes nothing for such a model and such files."""
    of_hits = clusters_hits(model)
    no_sweeps = "hits" if of_hits else "shapes, rooms or frustums" if reads_clouds(dataset) else None
    if no_sweeps is not None:
        for name in ("columns", "intensity_scale"):
            if getattr(options, name) != getattr(InferOptions, name):
                raise ConfigError(f"--{name.replace('_', '-')}: is for sweeps of a LiDAR, and files are of {no_sweeps}")
    finds_others = of_hits or label_map_of(dataset) is not None or resolve_type(dataset["type"], DATASETS) is ModelNet40
    if options.min_score is not None and (finds_others or "object" not in model.get("heads", ("object",))):
        raise ConfigError(f"--min-score: is for boxes, and {options.checkpoint} finds none")


def _calibrations(options: InferOptions, needs_images: bool) -> list[Path | None]:
    """Return the calibration file of each point file; one serves all."""
    given = list(options.calibration)
    if needs_images and not given:
        raise ConfigError(
            f"{options.checkpoint} looks at camera images: give --calibration FILE.json (see tools/README.md; "
            "tools/export_samples.py writes examples), or use a LiDAR-only checkpoint"
        )
    if given and not needs_images:
        raise ConfigError(f"--calibration: {options.checkpoint} looks at no images")
    if len(given) not in (0, 1, len(options.files)):
        raise ConfigError(f"--calibration: must be one file, or one for each of {len(options.files)}, got {len(given)}")
    return given * len(options.files) if len(given) == 1 else given or [None] * len(options.files)
