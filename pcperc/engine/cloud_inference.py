# SPDX-License-Identifier: Apache-2.0
"""Shapes, rooms and frustums that belong to no data set: read from a file as samples, and what is said of them."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pcperc.datasets import S3DIS, KITTIFrustums, LabelMap, ModelNet40, S3DISBlocks, ScanNet, ShapeNetPart
from pcperc.datasets.cloud_files import (
    check_colors,
    check_finite,
    check_normals,
    check_not_turned,
    check_room_size,
    read_npy,
    read_ply_columns,
    read_table,
)
from pcperc.datasets.kitti_files import CLASSES as KITTI_CLASSES
from pcperc.datasets.modelnet40 import CATEGORIES as MODELNET_CATEGORIES
from pcperc.datasets.rooms import Room, room_columns
from pcperc.datasets.semantickitti import read_scan
from pcperc.datasets.shapenet_part_labels import CATEGORIES as SHAPENET_CATEGORIES
from pcperc.engine.config import ConfigError
from pcperc.geometry import IGNORED, CloudClass, rotation_z
from pcperc.registry import DATASETS, resolve_type

# What the columns of a file are, by the data set that a checkpoint was trained for.
COLUMNS = {
    ShapeNetPart: "x y z nx ny nz",
    ModelNet40: "x y z nx ny nz",
    S3DIS: "x y z red green blue",
    S3DISBlocks: "x y z red green blue",
    ScanNet: "x y z red green blue",
    KITTIFrustums: "x y z intensity",
}
_TOLD = {ShapeNetPart: SHAPENET_CATEGORIES, KITTIFrustums: KITTI_CLASSES}


def reads_clouds(dataset: dict) -> bool:
    """True where the data set of a config is of shapes, rooms or frustums."""
    return resolve_type(dataset["type"], DATASETS) in COLUMNS


def told_categories(dataset: dict) -> tuple[str, ...] | None:
    """Return what ``--category`` may say for the data set of a config; None where a network is told nothing."""
    kind = resolve_type(dataset["type"], DATASETS) if reads_clouds(dataset) else None
    known = _TOLD.get(kind)
    return tuple(dataset.get("classes", known)) if kind is KITTIFrustums else known


def check_category(dataset: dict, category: str | None) -> str | None:
    """Return the name that ``--category`` means, in any case, for the data set of a config.

    Raises:
        ConfigError: it is missing, unknown, or given where nothing is told.
    """
    known = told_categories(dataset)
    if known is None and category is not None:
        raise ConfigError(f"--category: the checkpoint is told nothing of what files show, got '{category}'")
    if known is None:
        return None
    named = next((name for name in known if name.lower() == (category or "").lower()), None)
    if named is None:
        got = "none" if category is None else f"'{category}'"
        raise ConfigError(f"--category must say what the files show, one of {', '.join(known)}; got {got}")
    return named


def cloud_sample(path: str | Path, dataset: dict, category: str | None) -> dict:
    """Read a file of one shape, room or frustum as a sample without truth.

    Args:
        path: ``.txt`` (white space) or ``.npy`` of rows as ``COLUMNS`` says, further columns such as labels left out;
            of a shape or room also ``.ply`` with properties of these names, of a frustum ``.bin`` as KITTI's scans.
            Colours are 0 to 255. A frustum is in a frame of x forward, y left, z up, whose origin it starts from; it is
            turned so that its points lie straight ahead on average. A frustum may hold no point.
        dataset: of the checkpoint's config. category: checked by `check_category`.
    Raises:
        FileNotFoundError, ValueError: no such file, too few columns, rows for columns, what is not finite, no colour or
            no normal, a shape or room without a point; the message names it.
    """
    path, kind = Path(path), resolve_type(dataset["type"], DATASETS)
    table = _read(path, COLUMNS[kind].split(), frustum=kind is KITTIFrustums)
    sample = {"sample_token": str(path), "scene_name": "", "num_recorded_points": len(table)}
    if kind is KITTIFrustums:
        angle = math.atan2(table[:, 1].sum(), table[:, 0].sum())
        points = table.copy()
        points[:, :3] = table[:, :3] @ rotation_z(-angle)[:3, :3].T
        index = tuple(dataset.get("classes", KITTI_CLASSES)).index(category)
        told = {"class_index": index, "frustum_angle": angle, "frustum2lidar": rotation_z(angle)}
        return sample | told | {"points": points.astype(np.float32)}
    if kind is ShapeNetPart:
        sample["category"] = SHAPENET_CATEGORIES.index(category)
    if "red" in COLUMNS[kind]:
        table = room_columns(Room(table[:, :3], table[:, 3:6] / 255, None))[0]
    return sample | {"points": table.astype(np.float32)}


def recorded_cloud(sample: dict, dataset: dict) -> dict:
    """Return a sample of the data set of a config with ``points`` as `cloud_sample` reads them; others as they are."""
    if not reads_clouds(dataset) or "red" not in COLUMNS[resolve_type(dataset["type"], DATASETS)]:
        return sample
    points = sample["points"][:, :6].astype(np.float64) * (1, 1, 1, 255, 255, 255)
    points[:, :3] += sample.get("origin", 0)
    return sample | {"points": points}


def made_up_sample(dataset: dict) -> dict:
    """Return a sample without truth of noise, as large as those of the data set of a config usually are."""
    kind, rng = resolve_type(dataset["type"], DATASETS), np.random.default_rng(0)
    sample = {"sample_token": "made up", "scene_name": ""}
    if kind is KITTIFrustums:
        points = rng.normal((20, 0, -1, 0.5), (3, 1, 0.5, 0.1), (1000, 4)).astype(np.float32)
        return sample | {"points": points, "class_index": 0, "frustum_angle": 0.0, "frustum2lidar": np.eye(4)}
    if "red" in COLUMNS[kind]:
        xyz = rng.uniform(0, 1, (100_000, 3)) * (8, 6, 3)
        return sample | {"points": room_columns(Room(xyz, rng.uniform(0, 1, xyz.shape), None))[0]}
    return sample | {"points": rng.normal(size=(2600, 6)).astype(np.float32), "category": 0}


def cloud_label_map(dataset: dict) -> LabelMap | None:
    """Return the classes of the points of shapes or rooms, recorded by their own numbers; None for others."""
    kind = resolve_type(dataset["type"], DATASETS)
    classes = getattr(kind, "classes", None) if kind in COLUMNS else None
    if classes is None or kind in (ModelNet40, KITTIFrustums):
        return None
    numbers = range(len(classes))
    return LabelMap(kind.__name__, tuple(classes), {number: number for number in numbers}, tuple(numbers))


def describe_class(found: CloudClass, classes: Sequence[str] = MODELNET_CATEGORIES) -> list[dict]:
    """Return the category of a shape and its probability; none of a file without points."""
    if found.label == IGNORED:
        return []
    return [{"class": classes[found.label], "score": round(found.score, 4)}]


def _read(path: Path, columns: Sequence[str], *, frustum: bool) -> np.ndarray:
    suffixes = (".txt", ".npy", ".bin" if frustum else ".ply")
    if path.suffix not in suffixes:
        raise ValueError(f"{path}: must be one of {', '.join(suffixes)}, rows of {', '.join(columns)}")
    if path.suffix == ".bin":
        table = read_scan(path)
    elif path.suffix == ".npy":
        table = read_npy(path, "cloud")
    elif path.suffix == ".ply":
        table = read_ply_columns(path, "cloud", columns)
    else:
        first = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        table = read_table(path, "cloud", columns=max(len(first.split()), len(columns)), names=columns)
    if table.ndim != 2 or table.shape[1] < len(columns) or table.dtype.kind not in "fiu":
        raise ValueError(f"{path}: must hold rows of {', '.join(columns)}, got {table.shape} {table.dtype}")
    if len(table) == 0:
        if not frustum:
            raise ValueError(f"{path}: must hold a row of {', '.join(columns)} or more, but holds no point")
        return np.zeros((0, len(columns)))
    check_not_turned(path, "cloud", table, columns)
    table = np.asarray(table[:, : len(columns)], np.float64)
    check_finite(path, "cloud", table)
    if "red" in columns:
        check_colors(path, "cloud", table[:, 3:6])
        check_room_size(path, "cloud", table[:, :3])
    if "nx" in columns:
        check_normals(path, "cloud", table[:, 3:6])
    return table
