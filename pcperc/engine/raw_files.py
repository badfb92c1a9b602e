# SPDX-License-Identifier: Apache-2.0
"""Samples as raw files that belong to no data set: points, images, a calibration; read, and written from a sample.

Events of a calorimeter are written alone: `pcperc.datasets.calorimeter.read_event` reads them.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pcperc.datasets.calorimeter import CLUSTER_NAME, HIT_NAMES
from pcperc.datasets.cloud_files import NUMPY_ERRORS, numpy_reason
from pcperc.datasets.nuscenes import read_image, read_sweep
from pcperc.files import write_arrays, write_text, written_whole
from pcperc.visualization import save_png

POINT_FILES = (".bin", ".npy", ".npz")
MATRICES = {"lidar2camera": (4, 4), "camera2image": (3, 3)}


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
        with open(path, "rb") as file:  # which numpy leaves open where it is damaged
            points = np.load(file, allow_pickle=False)
            if not isinstance(points, np.ndarray):
                names = points.files
                points = points["points" if "points" in names else names[0]] if names else np.zeros((0, 3))
    except NUMPY_ERRORS as error:
        raise ValueError(f"{path}: not a readable array of numbers ({numpy_reason(error)})") from error
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
    images = [path.parent / camera["image"] for camera in cameras]
    for number, image in enumerate(images):
        if not image.is_file():
            raise FileNotFoundError(
                f"{path}: camera {number}: image {image} is missing; paths are relative to this file"
            )
    images = [read_image(image) for image in images]
    return {"images": images, **matrices, "image_aug": np.tile(np.eye(3), (len(cameras), 1, 1))}


def write_raw_sample(sample: dict, folder: str | Path, stem: str, *, cameras: Sequence[str] = ()) -> list[Path]:
    """Write a sample of docs/conventions.md as files that ``read_points`` and ``read_cameras`` give back as it is.

    Those of an event's hits, with their truth where the sample has it, are what `read_event` gives back.

    Args:
        sample: without augmentation.
        stem: the names of the files begin with it.
        cameras: names of the images, in their order; by default their numbers.
    Returns:
        ``<stem>.npy`` with the points, (N, 5) ``[x, y, z, intensity, time_lag]``; where the sample has images,
        ``<stem>.json``, the calibration, and ``<stem>_<camera>.png`` each. Of an event ``<stem>.npz`` alone.
    Raises:
        OSError: a file cannot be written; the message names it.
    """
    folder = Path(folder)
    if "hits" in sample:
        event = folder / f"{stem}.npz"
        write_arrays(event, _event_arrays(sample))
        return [event]
    points = folder / f"{stem}.npy"
    with written_whole(points) as partial, open(partial, "wb") as file:
        np.save(file, sample["points"])
    if "images" not in sample:
        return [points]
    names = [f"{stem}_{camera}.png" for camera in cameras or range(len(sample["images"]))]
    images = [save_png(folder / name, image) for name, image in zip(names, sample["images"], strict=True)]
    rows = [
        {"image": name, **{key: sample[key][number].tolist() for key in MATRICES}} for number, name in enumerate(names)
    ]
    calibration = folder / f"{stem}.json"
    write_text(calibration, row_by_row({}, {"cameras": rows}))
    return [points, calibration, *images]


def _event_arrays(sample: dict) -> dict[str, np.ndarray]:
    """Return the arrays of an event by their names in a file; clusters without classes are of the recHit layout."""
    arrays = {name: values for name, values in sample.items() if isinstance(values, np.ndarray)}
    if "instance" in arrays and "class" not in arrays:
        return {HIT_NAMES[1]: arrays["hits"], CLUSTER_NAME: arrays["instance"]}
    return arrays


def row_by_row(head: dict, parts: dict[str, Sequence[dict]]) -> str:
    """Return JSON of ``{**head, **parts}`` that people can read too: a line for each entry and each row of a part."""
    entries = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    for key, rows in parts.items():
        lines = ",\n  ".join(json.dumps(row) for row in rows)
        entries.append(f"{json.dumps(key)}: [\n  {lines}\n ]")
    return "{\n " + ",\n ".join(entries) + "\n}\n"


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
