# SPDX-License-Identifier: Apache-2.0
"""Predictions for files that belong to no data set: raw points and, where the model has cameras, images; hits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pcperc.datasets import ModelNet40, collate
from pcperc.engine.cloud_inference import check_category, reads_clouds
from pcperc.engine.config import ConfigError
from pcperc.engine.distributed import pick_device
from pcperc.engine.file_samples import Reading, classes_of, file_sample, label_map_of
from pcperc.engine.hit_inference import clusters_hits
from pcperc.engine.loading import build_model, open_checkpoint
from pcperc.engine.messages import one_line, say
from pcperc.engine.prediction_files import told, told_of_all, write_prediction
from pcperc.engine.progress import ProgressDisplay
from pcperc.engine.raw_files import row_by_row
from pcperc.files import write_text
from pcperc.geometry import CloudClass, Detections, HitClusters, MapPrediction, PointLabels
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
    written, failed = {}, []  # what was found, by result file
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
            parts, written[out] = write_prediction(found, sample, out, min_score, classes, label_map)
            write_text(out, row_by_row(head, parts))
            display.advance(f"{told(written[out])} in {Path(path).name}")
    say(told_of_all(written))
    if failed:
        raise ValueError(f"{len(failed)} of {len(options.files)} files failed, as said above: {', '.join(failed)}")
    return list(written)


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
