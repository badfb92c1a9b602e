# SPDX-License-Identifier: Apache-2.0
"""Detections in files that belong to no data set: raw points and, where the model has cameras, images."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pcperc.datasets import CLASSES, collate
from pcperc.datasets.nuscenes import read_image, read_sweep
from pcperc.engine.checkpoint import save_text
from pcperc.engine.config import ConfigError
from pcperc.engine.distributed import pick_device
from pcperc.engine.loading import build_model, open_checkpoint
from pcperc.engine.messages import say
from pcperc.engine.progress import ProgressDisplay
from pcperc.geometry import Detections
from pcperc.registry import TRANSFORMS

POINT_FILES = (".bin", ".npy", ".npz")
MATRICES = {"lidar2camera": (4, 4), "camera2image": (3, 3)}


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
            record = {
                "file": str(path),
                "checkpoint": str(options.checkpoint),
                "trained_on_simulated_data": opened.simulated,
                "detections": describe(detections.filter(detections.scores >= options.min_score), classes),
            }
            out = options.out / f"{Path(path).name}.json"
            save_text(json.dumps(record, indent=1) + "\n", out)
            written.append(out)
            display.advance(f"{len(record['detections'])} objects in {Path(path).name}")
    say("\n".join(f"{path}" for path in written))
    return written


@torch.inference_mode()
def detect(model: torch.nn.Module, sample: dict) -> Detections:
    """Return the detections of one transformed sample, on the CPU, in the recorded LiDAR frame."""
    batch = model.data_preprocessor(collate([sample]), False)
    return model(**batch, mode="predict")[0].to("cpu")


def read_points(path: str | Path, *, columns: int | None = None, intensity_scale: float = 1.0) -> np.ndarray:
    """Read a raw point file as (N, 5) float32 ``[x, y, z, intensity, time_lag]``.

    Args:
        path: ``.pcd.bin`` (nuScenes: float32 x 5, the fifth, the ring, becomes time lag 0); ``.bin`` (KITTI and others:
            float32 x 4); ``.npy`` or ``.npz`` (key "points" or the only one): (N, 3), (N, 4) or (N, 5) as returned.
        columns: 4 or 5 floats a point in a ``.bin``, where the name does not tell.
        intensity_scale: factor to 0..255; 255 for files with 0..1.
    Raises:
        FileNotFoundError: no such file.
        ValueError: unknown kind, truncated, empty, not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such point file")
    if path.suffix not in POINT_FILES:
        raise ValueError(f"{path}: must be one of {', '.join(('.pcd.bin', *POINT_FILES))}")
    if path.suffix == ".bin":
        points = _read_bin(path, columns or (5 if path.name.endswith(".pcd.bin") else 4))
    else:
        points = _read_numpy(path)
    if len(points) == 0 or points.shape[1] not in (3, 4, 5):
        raise ValueError(f"{path}: must hold (N, 3), (N, 4) or (N, 5) points with N > 0, got {points.shape}")
    bad = ~np.isfinite(points).all(axis=1)
    if bad.any():
        raise ValueError(f"{path}: must be finite, got NaN or infinity in {bad.sum()} points, first {bad.argmax()}")
    full = np.zeros((len(points), 5), np.float32)
    full[:, : points.shape[1]] = points
    full[:, 3] *= intensity_scale
    return full


def _read_bin(path: Path, columns: int) -> np.ndarray:
    if columns == 5:
        points = read_sweep(path)
        points[:, 4] = 0
        return points
    content = path.read_bytes()
    if columns != 4 or not content or len(content) % 16:
        raise ValueError(
            f"{path}: must hold float32 rows of {columns} ({4 * columns} bytes each), got {len(content)} bytes; "
            "--columns 5 reads rows of five"
        )
    return np.frombuffer(content, "<f4").reshape(-1, 4).astype(np.float32)


def _read_numpy(path: Path) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            points = loaded
        else:
            with loaded:
                names = loaded.files
                points = loaded["points" if "points" in names else names[0]] if names else np.zeros((0, 3))
    except (ValueError, OSError, EOFError) as error:
        reason = "it holds other things" if "pickle" in str(error) else error  # numpy's advice is to execute the file
        raise ValueError(f"{path}: not a readable array of numbers ({reason})") from error
    if points.ndim != 2 or points.dtype.kind not in "fiu":
        raise ValueError(f"{path}: must hold (N, 3), (N, 4) or (N, 5) numbers, got {points.shape} {points.dtype}")
    return points.astype(np.float32)


def raw_sample(points: np.ndarray, path: str | Path, calibration: str | Path | None) -> dict:
    """Make a sample of docs/conventions.md of raw points and, with a calibration file, images."""
    eye = np.eye(4)
    sample = {
        "sample_token": str(path),
        "scene_name": "",
        "points": points,
        "lidar2ego": eye,
        "ego2global": eye,
        "lidar_aug": eye.copy(),
    }
    return {**sample, **read_cameras(calibration)} if calibration else sample


def read_cameras(path: str | Path) -> dict:
    """Read a calibration file and the images that it names.

    It is JSON: ``{"cameras": [{"image": PATH, "lidar2camera": 4 x 4, "camera2image": 3 x 3}, ...]}``; paths are
    relative to its folder, matrices as in docs/conventions.md.

    Raises:
        FileNotFoundError, ValueError: the file or an image is missing or holds something else.
    """
    path = Path(path)
    try:
        cameras = json.loads(path.read_text())["cameras"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: must be JSON with a list under 'cameras' ({error!r})") from error
    if not isinstance(cameras, list) or not cameras:
        raise ValueError(f"{path}: 'cameras' must be a list of at least one camera, got {cameras!r}")
    for number, camera in enumerate(cameras):
        if not isinstance(camera, dict) or not isinstance(camera.get("image"), str):
            raise ValueError(f"{path}: camera {number}: must be an object with 'image', the name of a file")
    matrices = {
        key: np.stack([_matrix(camera, key, f"{path}: camera {number}") for number, camera in enumerate(cameras)])
        for key in MATRICES
    }
    images = [read_image(path.parent / camera["image"]) for camera in cameras]
    return {"images": images, **matrices, "image_aug": np.tile(np.eye(3), (len(cameras), 1, 1))}


def _matrix(camera: dict, key: str, where: str) -> np.ndarray:
    """Return a matrix of a calibration file as float64."""
    height, width = MATRICES[key]
    problem = f"{where}: '{key}' must be {height} x {width} finite numbers that can be inverted"
    try:
        matrix = np.array(camera[key], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{problem}, got {camera.get(key)}") from error
    if matrix.shape != (height, width):
        raise ValueError(f"{problem}, got {matrix.shape}")
    if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix) < height:
        raise ValueError(f"{problem}, got {camera[key]}")
    return matrix


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
            f"{options.checkpoint} looks at camera images: give --calibration FILE.json (tools/README.md), "
            "or use a LiDAR-only checkpoint"
        )
    if given and not needs_images:
        raise ConfigError(f"--calibration: {options.checkpoint} looks at no images")
    if len(given) not in (0, 1, len(options.files)):
        raise ConfigError(f"--calibration: must be one file, or one for each of {len(options.files)}, got {len(given)}")
    return given * len(options.files) if len(given) == 1 else given or [None] * len(options.files)
