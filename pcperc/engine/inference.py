# SPDX-License-Identifier: Apache-2.0
"""Detections in files that belong to no data set: raw points and, where the model has cameras, images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pcperc.datasets import CLASSES, collate
from pcperc.engine.config import ConfigError
from pcperc.engine.distributed import pick_device
from pcperc.engine.loading import build_model, open_checkpoint
from pcperc.engine.messages import say
from pcperc.engine.progress import ProgressDisplay
from pcperc.engine.raw_files import raw_sample, read_points, row_by_row
from pcperc.files import write_text
from pcperc.geometry import Detections
from pcperc.registry import TRANSFORMS


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
    min_score: float = 0.1
    device: str | None = None


def infer(options: InferOptions) -> list[Path]:
    """Detect objects in each file and write ``<out>/<name of the file>.json``.

    Returns:
        The files that were written, in the order of ``options.files``.
    Raises:
        ConfigError: no calibration for a model with cameras, or not as many as files; two files of one name.
        FileNotFoundError, ValueError: an input file is missing or holds something else; the message names it.
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
            raise FileNotFoundError(f"{path}: no such file")
    model = build_model(opened, device)
    transforms = [TRANSFORMS.build(transform) for transform in dataset.get("transforms", ())]
    classes = dataset.get("classes", CLASSES)
    written = []
    with ProgressDisplay("inferring", len(options.files)) as display:
        for path, calibration in zip(options.files, calibrations, strict=True):
            points = read_points(path, columns=options.columns, intensity_scale=options.intensity_scale)
            sample = raw_sample(points, path, calibration)
            for transform in transforms:
                sample = transform(sample)
            detections = detect(model, sample)
            rows = describe(detections.filter(detections.scores >= options.min_score), classes)
            head = {
                "file": str(path),
                "checkpoint": str(options.checkpoint),
                "trained_on_simulated_data": opened.simulated,
            }
            out = options.out / f"{Path(path).name}.json"
            write_text(out, row_by_row(head, "detections", rows))
            written.append(out)
            display.advance(f"{len(rows)} objects in {Path(path).name}")
    say("\n".join(f"{path}" for path in written))
    return written


@torch.inference_mode()
def detect(model: torch.nn.Module, sample: dict) -> Detections:
    """Return the detections of one transformed sample, on the CPU, in the recorded LiDAR frame."""
    batch = model.data_preprocessor(collate([sample]), False)
    return model(**batch, mode="predict")[0].to("cpu")


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
