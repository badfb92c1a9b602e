# SPDX-License-Identifier: Apache-2.0
"""Calorimeter events: hits in the colours of their clusters, true beside predicted, flat and in three dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from pcperc.geometry import HitClusters
from pcperc.geometry.calorimeter import HIT_CLASSES
from pcperc.visualization.colors import BACKGROUND, MUTED, OTHER_COLORS, RING, SIMULATED, TEXT
from pcperc.visualization.drawing import draw_line, draw_text
from pcperc.visualization.frame import PREDICTION, TRUTH
from pcperc.visualization.scene import SceneError, cast_rays, look_at, open3d_problem
from pcperc.visualization.scene_geometry import point_squares

COLORINGS = ("cluster", "class")
CLASS_COLORS = {"noise": MUTED, "electromagnetic": (64, 156, 255), "hadronic": (255, 120, 50)}
CLUSTER_COLORS = (
    *((255, 80, 70), (64, 156, 255), (48, 209, 88), (255, 214, 10), (255, 120, 200), (175, 100, 255)),
    *((0, 230, 200), (255, 140, 0), *OTHER_COLORS),
    *((200, 150, 100), (40, 150, 60), (190, 60, 130), (150, 90, 30), (0, 140, 150), (255, 190, 170)),
)
NUM_COLORED = len(CLUSTER_COLORS)  # clusters of an event, those of most energy; more would be told apart by nobody
FURTHER = (162, 166, 174)  # of all other clusters
HEADER = 78  # pixels above each panel
EYE_DISTANCE = 620.0  # cm from the middle of the endcap
POINT_SIZE = 2.5  # pixels of the pictures in three dimensions


@dataclass(frozen=True)
class EventFrame:
    """One event to look at.

    Attributes:
        token: name of the sample. scene_name: name of its split.
        hits: (N, 9) `HIT_COLUMNS`.
        truth, predictions: of numpy arrays, or None where there are none to show.
        simulated: whether the data come from a simulator; every picture then says so.
        has_classes: whether the truth says the class of a hit.
    """

    token: str
    scene_name: str
    hits: np.ndarray
    truth: HitClusters | None = None
    predictions: HitClusters | None = None
    simulated: bool = False
    has_classes: bool = True

    @classmethod
    def from_sample(
        cls, sample: dict[str, Any], *, predictions: HitClusters | None = None, simulated: bool = False
    ) -> EventFrame:
        """Make a frame of a sample of a data set (docs/conventions.md).

        Raises:
            ValueError: not a prediction for each hit.
        """
        hits, truth = sample["hits"], None
        if "instance" in sample:  # the recHit layout knows clusters but no classes
            label = sample.get("class", (np.asarray(sample["instance"]) >= 0).astype(np.int64))
            truth = HitClusters(label, sample["instance"], np.ones(len(hits), np.float32))
        if predictions is not None and len(predictions) != len(hits):
            raise ValueError(f"EventFrame: predictions must be of {len(hits)} hits, got {len(predictions)}")
        scene = sample.get("scene_name", "")
        found = None if predictions is None else predictions.numpy()
        simulated = simulated or "sim" in scene.lower()
        return cls(sample.get("sample_token", ""), scene, hits, truth, found, simulated, "class" in sample)

    def layers(self) -> list[tuple[str, HitClusters]]:
        """Return what there is to draw, truth first; without either all hits as noise."""
        layers = [(TRUTH, self.truth), (PREDICTION, self.predictions)]
        found = [(kind, clusters) for kind, clusters in layers if clusters is not None]
        return found or [("hits", HitClusters.all_noise(len(self.hits)).numpy())]

    @property
    def file_name(self) -> str:
        """The token as part of a file's name."""
        return self.token.replace("/", "_")

    def title(self) -> str:
        """Return the event in one line."""
        return self.token


def colors_of_hits(frame: EventFrame, *, by: str = "cluster") -> dict[str, np.ndarray]:
    """Return (N, 3) uint8 RGB for each layer of the frame.

    Args:
        by: "cluster" or "class". By cluster the `NUM_COLORED` of most energy have a colour each, others are light grey;
            hits in no cluster are grey. A predicted one has the colour of the true one that it shares most energy with,
            if that is half of its own or more and no other one has more of it. By class, truth without classes is grey.
    Raises:
        ValueError: another name.
    """
    if by not in COLORINGS:
        raise ValueError(f"colors_of_hits: by must be one of {', '.join(COLORINGS)}, got {by!r}")
    if by == "class":
        table = np.array([CLASS_COLORS[name] for name in HIT_CLASSES], np.uint8)
        unknown = np.full((len(frame.hits), 3), MUTED, np.uint8)
        layers = frame.layers()
        return {kind: unknown if _lacks_classes(frame, kind) else table[found.labels] for kind, found in layers}
    table = np.array([*CLUSTER_COLORS, FURTHER, MUTED], np.uint8)  # the last also at index -1
    return {kind: table[number] for kind, number in _color_numbers(frame).items()}


def _lacks_classes(frame: EventFrame, kind: str) -> bool:
    return kind == TRUTH and not frame.has_classes


def _color_numbers(frame: EventFrame) -> dict[str, np.ndarray]:
    """Return the number of each hit's colour for each layer: `NUM_COLORED` for further clusters, -1 for none."""
    energy, numbers = frame.hits[:, 0], {}
    for kind, clusters in frame.layers():
        number = _by_energy(clusters.instances, energy)
        if kind == PREDICTION and frame.truth is not None:
            number = _like_truth(numbers[TRUTH], number, energy)
        numbers[kind] = number
    return {kind: np.minimum(number, NUM_COLORED) for kind, number in numbers.items()}


def _by_energy(instances: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Number clusters anew from 0 by falling energy; files may number them as they like, with gaps of any size."""
    known, row = np.unique(instances, return_inverse=True)
    sums = np.bincount(row, weights=energy, minlength=len(known))
    sums[known < 0] = -1.0  # behind all clusters
    place = np.empty(len(known), np.int64)
    place[np.lexsort((known, -sums))] = np.arange(len(known))
    place[known < 0] = -1
    return place[row]


def _like_truth(truth: np.ndarray, predicted: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Number predicted clusters as the true ones that they share most energy with, if that is half of their own.

    Of several that share most with the same shower only the one with the most is numbered so: pieces are told apart.
    Others take the colours that no shower has as long as there are any. Both are numbered by falling energy.
    """
    both = (truth >= 0) & (predicted >= 0)
    rows, columns = predicted.max(initial=-1) + 1, truth.max(initial=-1) + 1
    pair = predicted[both] * (columns + 1) + truth[both]  # a column more, so that there is one
    shared = np.bincount(pair, weights=energy[both], minlength=rows * (columns + 1)).reshape(rows, columns + 1)
    most, alike = shared.max(axis=1), shared.argmax(axis=1)
    own = np.bincount(predicted[predicted >= 0], weights=energy[predicted >= 0], minlength=rows)
    matched = np.flatnonzero((most > 0) & (2 * most >= own))
    matched = matched[np.lexsort((matched, -most[matched], alike[matched]))]
    first = matched[np.append(True, np.diff(alike[matched]) != 0)[: len(matched)]]
    numbers = np.full(rows + 1, NUM_COLORED)
    free = np.arange(columns, NUM_COLORED)
    others = np.setdiff1d(np.arange(rows), first)[: len(free)]
    numbers[others] = free[: len(others)]
    numbers[first], numbers[-1] = alike[first], -1
    return numbers[predicted]


def draw_event(frame: EventFrame, *, size: int = 520, color_by: str = "cluster") -> np.ndarray:
    """Draw an event along the beam (x, y) and from the side (depth, distance from the beam), a column for each layer.

    Coloured clusters are drawn over further ones, those over noise; large energies last and larger. Needs no display.

    Args:
        size: of each of the panels, pixels. color_by: as of `colors_of_hits`.
    Returns:
        (2 size + header, layers * size, 3) uint8 RGB.
    """
    hits, colors = frame.hits, colors_of_hits(frame, by=color_by)
    x, y, z = hits[:, 5:8].T
    radius = np.hypot(x, y)
    views = (
        ("x, y (cm)", x, y, (-280.0, 280.0), (-280.0, 280.0)),
        ("|z|, distance from the beam (cm)", np.abs(z), radius, (310.0, 530.0), (0.0, 280.0)),
    )
    columns = []
    for kind, clusters in frame.layers():
        panels = [_header(frame, kind, clusters, size, color_by)]
        for label, *view in views:
            panel = _panel(*view, hits[:, 0], colors[kind], size)
            draw_text(panel, label, (10, size - 10), MUTED, scale=0.42)
            panels.append(panel)
        columns.append(np.concatenate(panels))
    return np.concatenate(columns, axis=1)


def render_event(frame: EventFrame, *, width: int = 800, height: int = 700, color_by: str = "cluster") -> np.ndarray:
    """Draw an event in three dimensions with Open3D, without a display, a picture for each layer side by side.

    Raises:
        SceneError: Open3D cannot be loaded; the message is that of `open3d_problem`.
    """
    problem = open3d_problem()
    if problem:
        raise SceneError(problem)
    colors, places = colors_of_hits(frame, by=color_by), upright(frame.hits)
    camera, focal = point_of_view(), height
    intrinsics = np.array([[2 * focal, 0, width - 0.5], [0, 2 * focal, height - 0.5], [0, 0, 1]])
    vertices, triangles = point_squares(places, camera=camera, size=POINT_SIZE / focal)
    pictures = []
    for kind, clusters in frame.layers():
        mesh = vertices, triangles, np.repeat(colors[kind] / 255.0, 4, axis=0)
        picture = np.full((height, width, 3), BACKGROUND, np.uint8)
        if len(places):
            picture = cast_rays(mesh, intrinsics, camera, size=(2 * width, 2 * height))
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        pictures.append(np.concatenate([_header(frame, kind, clusters, width, color_by), picture]))
    return np.concatenate(pictures, axis=1)


def upright(hits: np.ndarray) -> np.ndarray:
    """Return the hits' places as they are looked at, (N, 3): depth, -x and y, in cm from the middle of the endcap."""
    x, y, z = hits[:, 5:8].astype(np.float64).T
    return np.stack([np.abs(z) - 420.0, -x, y], axis=1)


def point_of_view() -> np.ndarray:
    """Return the (4, 4) matrix to a camera beside the front of the endcap."""
    eye = EYE_DISTANCE * np.array([-0.72, -0.58, 0.38])
    return look_at(eye, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))


def _header(frame: EventFrame, kind: str, clusters: HitClusters, width: int, color_by: str) -> np.ndarray:
    """Draw what is shown: clusters, energies, the event and what the colours mean."""
    panel = np.full((HEADER, width, 3), BACKGROUND, np.uint8)
    count = len(np.unique(clusters.instances[clusters.instances >= 0]))
    inside, total = float(frame.hits[clusters.instances >= 0, 0].sum()), float(frame.hits[:, 0].sum())
    told = f"{count} clusters, {inside:.0f} of {total:.0f} GeV"
    if kind not in (TRUTH, PREDICTION):  # nobody said which there are
        told = f"- clusters, - of {total:.0f} GeV"
    draw_text(panel, f"{kind}: {told}", (10, 22))
    draw_text(panel, f"{frame.title()}  {len(frame.hits)} hits"[:70], (10, 44), MUTED, scale=0.42)
    if frame.simulated:
        draw_text(panel, "SIMULATED", (width - 110, 44), SIMULATED, scale=0.5)
    at = 10
    for text, color in _legend(frame, kind, count, color_by):
        draw_text(panel, text, (at, 66), color, scale=0.42)
        at += 6 * len(text) + 18
    return panel


def _legend(frame: EventFrame, kind: str, count: int, color_by: str) -> list[tuple[str, tuple[int, int, int]]]:
    """Say what the colours of a layer mean, as words in these colours."""
    if color_by == "class":
        return [("classes: -", MUTED)] if _lacks_classes(frame, kind) else list(CLASS_COLORS.items())
    entries = [("in no cluster", MUTED)] if kind in (TRUTH, PREDICTION) else []
    colored = np.unique(_color_numbers(frame)[kind])
    colored = int(((colored >= 0) & (colored < NUM_COLORED)).sum())
    if colored < count:
        entries = [(f"{colored} clusters in colours", TEXT), (f"{count - colored} further ones", FURTHER), *entries]
    return entries


def _panel(u, v, u_range, v_range, energy, colors, size: int) -> np.ndarray:
    """Draw hits at (u, v), v upwards."""
    image = np.full((size, size, 3), BACKGROUND, np.uint8)
    for low, high, horizontal in ((*u_range, False), (*v_range, True)):
        for tick in np.arange(np.ceil(low / 100) * 100, high, 100.0):
            at = (tick - low) / (high - low) * (size - 1)
            a, b = ((0, size - 1 - at), (size - 1, size - 1 - at)) if horizontal else ((at, 0), (at, size - 1))
            draw_line(image, a, b, RING, thickness=1)
            place = (4, size - 3 - at) if horizontal else (at + 3, 12)
            draw_text(image, f"{tick:.0f}", place, MUTED, scale=0.34)
    columns = (u - u_range[0]) / (u_range[1] - u_range[0]) * (size - 1)
    rows = (size - 1) - (v - v_range[0]) / (v_range[1] - v_range[0]) * (size - 1)
    large = np.clip(np.log10(np.maximum(energy, 1e-3) / 0.1) + 1, 1, 4).astype(int)
    above = np.full(len(colors), 2)
    for layer, color in enumerate((MUTED, FURTHER)):
        above[(colors == np.array(color)).all(axis=1)] = layer
    order = np.lexsort((energy, above))
    for row in order:
        place = int(round(float(columns[row]))), int(round(float(rows[row])))
        cv2.circle(image, place, int(large[row]), tuple(int(c) for c in colors[row]), -1)
    return image
