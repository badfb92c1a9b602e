# SPDX-License-Identifier: Apache-2.0
"""Pictures of shapes, rooms and frustums, true beside predicted."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pcperc.datasets import KITTIFrustums, ModelNet40, S3DISBlocks, ShapeNetPart
from pcperc.datasets.rooms import RoomBlocks
from pcperc.datasets.shapenet_part_labels import CATEGORIES, PART_NAMES, PARTS
from pcperc.engine.config import ConfigError
from pcperc.engine.inferred_files import kind_of
from pcperc.engine.messages import say
from pcperc.engine.progress import ProgressDisplay
from pcperc.evaluation import RoomVotes
from pcperc.geometry import CloudClass, Detections, PointLabels, transform_boxes
from pcperc.ops import points_in_boxes_mask
from pcperc.visualization import draw_frustum, draw_parts, draw_room, save_png

CLOUDS = (ShapeNetPart, ModelNet40, RoomBlocks, S3DISBlocks, KITTIFrustums)
Predict = Callable[[int, dict], PointLabels | Detections | CloudClass | None]


def save_cloud_pictures(
    dataset: Any, predict: Predict, folder: Path | None, *, max_samples: int, simulated: bool
) -> list[Path]:
    """Write a picture of each shape, room or frustum; rooms that are samples block by block are drawn whole.

    Args:
        dataset: one of ``CLOUDS``, or files of one.
        predict: from index and recorded sample to what a model says, or None.
        folder: receives the pictures. max_samples: the most of them, spread over the split; 0 is all.
        simulated: the pictures say so.
    Returns:
        The pictures that were saved.
    Raises:
        ConfigError: no folder; such clouds have pictures alone.
    """
    if folder is None:
        raise ConfigError("visualize: --save DIR must be given for shapes, rooms and frustums, which have no window")
    by_room = isinstance(dataset, RoomBlocks) and dataset.block is not None
    groups = _blocks_by_room(dataset) if by_room else [(token, [k]) for k, token in enumerate(dataset.tokens)]
    count = min(max_samples, len(groups)) if max_samples else len(groups)
    chosen = np.linspace(0, len(groups) - 1, count).round().astype(int)
    saved = []
    with ProgressDisplay("drawing", len(chosen)) as display:
        for position, number in enumerate(chosen):
            name, indices = groups[number]
            picture = _room(dataset, name, indices, predict, simulated) if by_room else None
            if picture is None:
                sample = dataset.read_sample(indices[0])
                picture = _picture(dataset, sample, predict(indices[0], sample), simulated)
            stem = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)
            saved.append(save_png(folder / f"{number:04d}_{stem}.png", picture))
            display.update(position + 1)
    say(f"{len(saved)} pictures in {folder}")
    return saved


def _blocks_by_room(dataset: RoomBlocks) -> list[tuple[str, list[int]]]:
    """Return the rooms of a data set with the indices of their blocks."""
    rooms: dict[str, list[int]] = {}
    for index, token in enumerate(dataset.tokens):
        rooms.setdefault(token.rpartition(":")[0], []).append(index)
    return list(rooms.items())


def _room(dataset: RoomBlocks, name: str, indices: Sequence[int], predict: Predict, simulated: bool) -> np.ndarray:
    """Draw a whole room from the votes of its blocks, or from the truth alone."""
    votes, points, truth = None, None, None
    for index in indices:
        sample = dataset.read_sample(index)
        rows = sample["room_index"]
        if points is None:
            points = np.zeros((sample["num_room_points"], 6), np.float32)
            truth = np.full(len(points), 255) if "point_labels" in sample else None
        points[rows] = sample["points"][:, :6] + np.append(sample["origin"], [0, 0, 0])
        if truth is not None:
            truth[rows] = sample["point_labels"]
        found = predict(index, sample)
        if found is not None:
            votes = votes or RoomVotes(len(points), len(dataset.classes))
            votes.add(found.numpy().labels, found.numpy().scores, rows)
    said = None if votes is None else votes.labels()
    return draw_room(points, classes=dataset.classes, truth=truth, predicted=said, title=name, simulated=simulated)


def _picture(dataset: Any, sample: dict, found: Any, simulated: bool) -> np.ndarray:
    """Draw one sample."""
    found = None if found is None else found.numpy()
    points, title, truth = sample["points"], sample["sample_token"], sample.get("point_labels")
    kind = kind_of(dataset)
    if kind is KITTIFrustums:
        return _frustum(dataset, sample, found, simulated)
    if kind is ModelNet40:
        name = kind.categories[sample["category"]] if "category" in sample else "points"
        said = "" if found is None else f", predicted {kind.categories[found.label]} ({found.score:.2f})"
        whole = np.zeros(len(points), np.int64)
        return draw_parts(points, names={0: name}, truth=whole, title=f"{title}{said}", simulated=simulated)
    said = None if found is None else found.labels
    if kind is ShapeNetPart:
        category = CATEGORIES[sample["category"]]
        names, title = dict(zip(PARTS[category], PART_NAMES[category], strict=True)), f"{category} {title}"
        return draw_parts(points, names=names, truth=truth, predicted=said, title=title, simulated=simulated)
    return draw_room(points, classes=dataset.classes, truth=truth, predicted=said, title=title, simulated=simulated)


def _frustum(dataset: KITTIFrustums, sample: dict, found: Detections | None, simulated: bool) -> np.ndarray:
    """Draw a frustum with its true and its estimated box; the points inside the estimate, or the truth, stand out."""
    points, truth, estimate = sample["points"], sample.get("box"), None
    title = f"{dataset.classes[sample['class_index']]} {sample['sample_token']}"
    if found is not None and len(found):
        lidar2frustum = np.linalg.inv(sample["frustum2lidar"])
        estimate = transform_boxes(np.asarray(found.boxes[:1, :7], np.float64), lidar2frustum, upright="target")[0]
        title += f", score {found.scores[0]:.2f}"
    box, mask = truth if estimate is None else estimate, None
    if box is not None:
        boxes = torch.from_numpy(np.asarray(box, np.float64)[None])
        mask = points_in_boxes_mask(torch.from_numpy(points), boxes)[:, 0].numpy()
    return draw_frustum(points, truth=truth, predicted=estimate, mask=mask, title=title, simulated=simulated)
