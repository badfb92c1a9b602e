# SPDX-License-Identifier: Apache-2.0
"""Building the database of annotated objects that `GTPaste` draws from (its format: pcperc/transforms/gt_database.py).

It grows under ``<folder>.partial`` and is renamed when complete; a build that was stopped goes on after the last sample
whose line in the index is whole.
"""

import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from pcperc import ops
from pcperc.files import naming
from pcperc.transforms.gt_database import FORMAT, INDEX_NAME, NUM_COLUMNS, GTDatabase, read_index

logger = logging.getLogger(__name__)


def build_gt_database(
    dataset: Any,
    folder: str | Path,
    *,
    classes: Sequence[str] | None = None,
    min_points: int = 5,
    overwrite: bool = False,
    show_progress: bool = True,
) -> dict[str, int]:
    """Cut the points inside every annotated box out of a data set.

    Args:
        dataset: samples with points, boxes and labels and without transforms, for nuScenes
            ``NuScenesDataset(..., modalities=("lidar",))`` with the number of sweeps that is trained with.
        folder: where the database is to lie.
        classes: names by label; None takes ``dataset.classes``.
        min_points: objects with fewer points are left out.
        overwrite: build anew where a complete database lies there already; otherwise it is kept as it is.
        show_progress: show a bar with the time left.
    Returns:
        Number of objects by class.
    Raises:
        ValueError: a sample lacks a key.
        OSError: the folder cannot be written, or a point file cannot be read; what was built so far stays under
            ``<folder>.partial``.
    """
    folder = Path(folder)
    classes = list(dataset.classes if classes is None else classes)
    if (folder / INDEX_NAME).is_file() and not overwrite:
        logger.info("%s is complete already; nothing done", folder)
        return GTDatabase(folder).counts()
    partial = folder.with_name(folder.name + ".partial")
    header = {"format": FORMAT, "classes": classes, "min_points": int(min_points), "num_samples": len(dataset)}
    with naming(partial, advice="; what is done is kept, call again to go on"):
        _grow(partial, dataset, header, min_points, show_progress)
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(partial, folder)
    return GTDatabase(folder).counts()


def _grow(partial: Path, dataset: Any, header: dict, min_points: int, show_progress: bool) -> None:
    """Append to ``partial`` the objects of all samples that it does not hold yet."""
    classes = header["classes"]
    done = _resume(partial, header)
    index = read_index(partial / INDEX_NAME)[1] if done else []
    ends = _ends(index, classes)
    files = {name: open(partial / f"{name}.bin", "r+b" if done else "wb") for name in classes}
    try:
        for name, file in files.items():
            file.truncate(ends[name] * NUM_COLUMNS * 4)
            file.seek(0, os.SEEK_END)
        with open(partial / INDEX_NAME, "a", encoding="utf-8") as index_file:
            steps = range(done, len(dataset))
            if show_progress:
                steps = track(steps, description="GT database", total=len(dataset), completed=done)
            for i in steps:
                objects = []
                for name, box, points in _cut_objects(dataset[i], classes, min_points):
                    files[name].write(points.astype("<f4").tobytes())
                    objects.append([name, ends[name], len(points), box])
                    ends[name] += len(points)
                for file in files.values():
                    file.flush()  # points first: a line of the index never speaks of points that are not there
                index_file.write(json.dumps({"sample": i, "objects": objects}) + "\n")
                index_file.flush()
            for file in (*files.values(), index_file):
                os.fsync(file.fileno())
    finally:
        for file in files.values():
            file.close()


def _cut_objects(sample: dict[str, Any], classes: list[str], min_points: int) -> list[tuple[str, list, np.ndarray]]:
    """Return (class, box as a list, points relative to the box centre) of the boxes with enough points."""
    for key in ("points", "boxes", "labels"):
        if key not in sample:
            raise ValueError(f"build_gt_database: samples must have the key '{key}', got {sorted(sample)}")
    points, boxes = sample["points"], sample["boxes"]
    if len(boxes) == 0:
        return []
    inside = ops.points_in_boxes_mask(torch.from_numpy(points[:, :3].copy()), torch.from_numpy(boxes)).numpy()
    objects = []
    for k in np.flatnonzero(inside.sum(axis=0) >= min_points):
        cut = points[inside[:, k], :NUM_COLUMNS].copy()
        cut[:, :3] -= boxes[k, :3]
        box = [float(v) if np.isfinite(v) else None for v in boxes[k]]
        objects.append((classes[int(sample["labels"][k])], box, cut))
    return objects


def _resume(partial: Path, header: dict) -> int:
    """Make ``partial`` ready to be written on; return how many samples it holds already."""
    index_path = partial / INDEX_NAME
    if index_path.is_file():
        try:
            found, lines = read_index(index_path)
        except ValueError:
            found, lines = {}, []
        if found == header and _points_are_there(partial, lines, header["classes"]):
            text = "".join(json.dumps(entry) + "\n" for entry in (header, *lines))
            temporary = index_path.with_suffix(".tmp")  # drops a last line cut in half
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, index_path)
            logger.info("%s: going on after %d samples", partial, len(lines))
            return len(lines)
        logger.warning("%s was begun with other settings or lacks points; starting anew", partial)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    index_path.write_text(json.dumps(header) + "\n", encoding="utf-8")
    return 0


def _points_are_there(partial: Path, index: list[dict], classes: list[str]) -> bool:
    """Return whether every file of points is as long as the index says; after a power cut it may be shorter."""
    if not index:
        return True
    paths = {name: partial / f"{name}.bin" for name in classes}
    ends = _ends(index, classes)
    return all(p.is_file() and p.stat().st_size >= ends[name] * NUM_COLUMNS * 4 for name, p in paths.items())


def _ends(index: list[dict], classes: list[str]) -> dict[str, int]:
    """Return the number of points written for each class."""
    ends = dict.fromkeys(classes, 0)
    for line in index:
        for name, start, length, _ in line["objects"]:
            ends[name] = max(ends[name], start + length)
    return ends
