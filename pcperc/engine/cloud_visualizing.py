# SPDX-License-Identifier: Apache-2.0
"""Shapes, rooms and frustums, true beside predicted: an interactive window, or pictures in a folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pcperc.datasets import KITTIFrustums, ModelNet40, S3DISBlocks, ShapeNetPart
from pcperc.datasets.rooms import RoomBlocks
from pcperc.datasets.shapenet_part_labels import CATEGORIES, PART_NAMES, PARTS
from pcperc.engine.inferred_files import kind_of
from pcperc.engine.messages import say, say_pictures
from pcperc.engine.progress import ProgressDisplay
from pcperc.evaluation import RoomVotes
from pcperc.geometry import CloudClass, Detections, PointLabels, transform_boxes
from pcperc.ops import points_in_boxes_mask
from pcperc.visualization import draw_frustum, draw_parts, draw_room, save_png
from pcperc.visualization.cloud_viewer import HELP, CloudFrame, CloudViewer

CLOUDS = (ShapeNetPart, ModelNet40, RoomBlocks, S3DISBlocks, KITTIFrustums)
_UNITS = {ShapeNetPart: "shapes", ModelNet40: "shapes", S3DISBlocks: "blocks", KITTIFrustums: "frustums"}
Predict = Callable[[int, dict], PointLabels | Detections | CloudClass | None]


class Drawing(NamedTuple):
    """What is to be drawn: "parts", "room" or "frustum", its points and the other arguments of that function."""

    what: str
    points: np.ndarray
    arguments: dict


_PICTURES = {"parts": draw_parts, "room": draw_room, "frustum": draw_frustum}
_FRAMES = {"parts": CloudFrame.of_parts, "room": CloudFrame.of_room, "frustum": CloudFrame.of_frustum}


class CloudDrawings(Sequence):
    """Shapes, rooms and frustums of a data set, each read when it is asked for; rooms that are samples block by block
    are whole.

    Args:
        dataset: one of ``CLOUDS``, or files of one.
        predict: from index and recorded sample to what a model says, or None.
        max_samples: the most of them, spread over the split; 0 is all.
        simulated: the drawings say so.
        trained_on_simulated: of which indices they say that the network of the predictions saw simulated data.
    Attributes:
        in_all: how many the split has.
    """

    def __init__(
        self,
        dataset: Any,
        predict: Predict,
        *,
        max_samples: int = 0,
        simulated: bool,
        trained_on_simulated: Callable[[int], bool] = lambda index: False,
    ) -> None:
        self.dataset, self.predict, self.simulated = dataset, predict, simulated
        self.trained_on_simulated = trained_on_simulated
        self.by_room = isinstance(dataset, RoomBlocks) and dataset.block is not None
        groups = _blocks_by_room(dataset) if self.by_room else [(t, [k]) for k, t in enumerate(dataset.tokens)]
        self.in_all = len(groups)
        count = min(max_samples, len(groups)) if max_samples else len(groups)
        numbers = np.linspace(0, len(groups) - 1, count).round().astype(int).tolist()
        self.groups = [(number, *groups[number]) for number in numbers]  # place in the split, name, samples

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, position: int) -> Drawing:
        _, name, indices = self.groups[position]
        if self.by_room:
            drawing = _room(self.dataset, name, indices, self.predict)
            predicted = drawing.arguments["predicted"] is not None
        else:
            sample = self.dataset.read_sample(indices[0])
            found = self.predict(indices[0], sample)
            drawing, predicted = _drawing(self.dataset, sample, found), found is not None
        trained = predicted and self.trained_on_simulated(indices[0])
        origin = dict(simulated=self.simulated, trained_on_simulated=trained)
        return drawing._replace(arguments=drawing.arguments | origin)


class CloudFrames(Sequence):
    """The same, for the window."""

    def __init__(self, drawings: CloudDrawings) -> None:
        self.drawings = drawings

    def __len__(self) -> int:
        return len(self.drawings)

    def __getitem__(self, position: int) -> CloudFrame:
        what, points, arguments = self.drawings[position]
        return _FRAMES[what](points, **arguments)


def show_clouds(dataset: Any, predict: Predict, folder: Path | None, *, max_samples: int, **origin: Any) -> list[Path]:
    """Write a picture of each shape, room or frustum into ``folder``, or without one open a window over all of them.

    Arguments: as of `CloudDrawings`, ``origin`` being its last two; ``max_samples`` is of pictures.

    Returns:
        The pictures that were saved.
    Raises:
        SceneError: there is no display and no folder.
    """
    if folder is None:
        frames = CloudFrames(CloudDrawings(dataset, predict, **origin))
        viewer = CloudViewer(frames, color_by="prediction", report=say)
        say(HELP)
        viewer.run()
        return []
    drawings, saved = CloudDrawings(dataset, predict, max_samples=max_samples, **origin), []
    with ProgressDisplay("drawing", len(drawings)) as display:
        for position, (number, name, _) in enumerate(drawings.groups):
            what, points, arguments = drawings[position]
            stem = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)
            saved.append(save_png(folder / f"{number:04d}_{stem}.png", _PICTURES[what](points, **arguments)))
            display.update(position + 1)
    say_pictures(
        len(saved), folder, shown=len(drawings), of=drawings.in_all, unit=_UNITS.get(kind_of(dataset), "rooms")
    )
    return saved


def _blocks_by_room(dataset: RoomBlocks) -> list[tuple[str, list[int]]]:
    """Return the rooms of a data set with the indices of their blocks."""
    rooms: dict[str, list[int]] = {}
    for index, token in enumerate(dataset.tokens):
        rooms.setdefault(token.rpartition(":")[0], []).append(index)
    return list(rooms.items())


def _room(dataset: RoomBlocks, name: str, indices: Sequence[int], predict: Predict) -> Drawing:
    """A whole room with the votes of its blocks, or the truth alone."""
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
    told = dict(classes=dataset.classes, truth=truth, predicted=said, title=name)
    return Drawing("room", points, told)


def _drawing(dataset: Any, sample: dict, found: Any) -> Drawing:
    """One sample."""
    found = None if found is None else found.numpy()
    points, title, truth = sample["points"], sample["sample_token"], sample.get("point_labels")
    kind = kind_of(dataset)
    if kind is KITTIFrustums:
        return _frustum(dataset, sample, found)
    told = dict(truth=truth, predicted=None if found is None else getattr(found, "labels", None))
    if kind is ModelNet40:
        name = kind.categories[sample["category"]] if "category" in sample else "points"
        title += "" if found is None else f", predicted {kind.categories[found.label]} ({found.score:.2f})"
        return Drawing(
            "parts", points, told | dict(names={0: name}, truth=np.zeros(len(points), np.int64), title=title)
        )
    if kind is ShapeNetPart:
        category = CATEGORIES[sample["category"]]
        names = dict(zip(PARTS[category], PART_NAMES[category], strict=True))
        return Drawing("parts", points, told | dict(names=names, title=f"{category} {title}"))
    return Drawing("room", points, told | dict(classes=dataset.classes, title=title))


def _frustum(dataset: KITTIFrustums, sample: dict, found: Detections | None) -> Drawing:
    """A frustum with its true and its predicted box; the points inside the latter, or else the former, stand out."""
    points, truth, predicted = sample["points"], sample.get("box"), None
    title = f"{dataset.classes[sample['class_index']]} {sample['sample_token']}"
    if found is not None and len(found):
        lidar2frustum = np.linalg.inv(sample["frustum2lidar"])
        predicted = transform_boxes(np.asarray(found.boxes[:1, :7], np.float64), lidar2frustum, upright="target")[0]
        title += f", score {found.scores[0]:.2f}"
    box, mask = truth if predicted is None else predicted, None
    if box is not None:
        boxes = torch.from_numpy(np.asarray(box, np.float64)[None])
        mask = points_in_boxes_mask(torch.from_numpy(points), boxes)[:, 0].numpy()
    told = dict(truth=truth, predicted=predicted, mask=mask, title=title)
    return Drawing("frustum", points, told)
