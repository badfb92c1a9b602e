# SPDX-License-Identifier: Apache-2.0
"""Driving scenes, true beside predicted: an interactive scene, pictures in a folder, or an animation."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pcperc.datasets import CAMERAS, NuScenesDataset
from pcperc.datasets.nuscenes import MODALITIES
from pcperc.engine.messages import say, say_pictures
from pcperc.engine.prediction_sources import Predict, Prediction
from pcperc.engine.progress import ProgressDisplay
from pcperc.geometry import Detections
from pcperc.registry import DATASETS, TRANSFORMS, resolve_type
from pcperc.transforms import DrawMapMasks
from pcperc.visualization import (
    Frame,
    SceneViewer,
    draw_birds_eye,
    draw_camera_mosaic,
    draw_map,
    open3d_problem,
    render_scene,
    save_gif,
    save_png,
)
from pcperc.visualization.scene_viewer import HELP


class Frames(Sequence):
    """The frames of some samples of a data set, each made when it is asked for; predictions are kept.

    Args:
        dataset: gives samples; where it has ``read_sample`` the pictures show the sample as recorded.
        indices: which samples, in which order.
        predict: from the index and the recorded sample to detections, a class for each point, a map, a dict of such by
            task, or None.
        score_threshold: predictions below it are left out.
        draw_masks: adds the true map to a recorded sample, or None.
        simulated: the pictures say so.
        trained_on_simulated: of which indices they say that the network of the predictions saw simulated data.
        trails: from the index to `Frame.trails`, of predictions that are tracks.
    """

    def __init__(
        self,
        dataset: Any,
        indices: Sequence[int],
        predict: Predict,
        *,
        score_threshold: float,
        simulated: bool,
        trained_on_simulated: Callable[[int], bool] = lambda index: False,
        draw_masks: DrawMapMasks | None = None,
        trails: Callable[[int], dict[int, np.ndarray]] = lambda index: {},
    ) -> None:
        self.dataset, self.indices, self.predict, self.trails = dataset, list(indices), predict, trails
        self.score_threshold, self.simulated, self.draw_masks = score_threshold, simulated, draw_masks
        self.trained_on_simulated = trained_on_simulated
        self._predictions: dict[int, Prediction | dict[str, Prediction] | None] = {}
        self.best_score = float("nan")  # of all predictions so far, shown or not

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Frame:
        index = self.indices[position]
        sample = self.dataset.read_sample(index) if hasattr(self.dataset, "read_sample") else self.dataset[index]
        if index not in self._predictions:
            found = self._predictions[index] = self.predict(index, sample)
            boxes = found.get("object") if isinstance(found, dict) else found
            if isinstance(boxes, Detections) and len(boxes):
                self.best_score = np.fmax(self.best_score, float(boxes.scores.max()))
        if self.draw_masks is not None:
            sample = self.draw_masks(sample)
        if "boxes" in sample and "points" in sample and sample["points"].shape[1] > 4:
            # Older sweeps trail behind whatever moves; the key sweep is what the boxes belong to.
            sample = {**sample, "points": sample["points"][sample["points"][:, 4] == 0]}
        frame = Frame.from_sample(
            sample,
            classes=self.dataset.classes,
            predictions=self._predictions[index],
            map_classes=getattr(self.dataset, "metainfo", {}).get("map_classes", ()),
            cameras=CAMERAS if isinstance(self.dataset, NuScenesDataset) else (),
            simulated=self.simulated,
            trained_on_simulated=self.trained_on_simulated(index),
        )
        return replace(frame, trails=self.trails(index)).above(self.score_threshold)


def show_scene(frames: Frames, *, color_by: str) -> None:
    """Open a window; raises SceneError where there is no display."""
    viewer = SceneViewer(frames, color_by=color_by, report=say)
    say(HELP)
    viewer.run()


def save_pictures(frames: Frames, folder: Path, *, color_by: str = "height", map_threshold: float = 0.5) -> list[Path]:
    """Write the pictures of each frame; what Open3D or images are missing for is said once and left out."""
    problem = open3d_problem()
    if problem:
        say(f"{problem}; the other pictures are drawn")
    saved = []
    with ProgressDisplay("drawing", len(frames)) as display:
        for position, index in enumerate(frames.indices):
            frame = frames[position]
            stem = f"{index:04d}_{frame.short_name}"
            saved.append(save_png(folder / f"{stem}_birds_eye.png", draw_birds_eye(frame, color_by=color_by)))
            if frame.images:
                saved.append(save_png(folder / f"{stem}_cameras.png", draw_camera_mosaic(frame)))
            if frame.true_map is not None or frame.predicted_map is not None:
                saved.append(save_png(folder / f"{stem}_map.png", draw_map(frame, threshold=map_threshold)))
            if problem is None:
                saved.append(save_png(folder / f"{stem}_scene.png", render_scene(frame, color_by=color_by)))
            display.update(position + 1)
    if frames.best_score < frames.score_threshold:
        say(f"no prediction reaches --score-threshold {frames.score_threshold} (the best has {frames.best_score:.3f})")
    say_pictures(len(saved), folder, shown=len(frames), of=len(frames.dataset), unit="samples")
    return saved


def save_animation(frames: Frames, path: Path, *, color_by: str = "height") -> Path:
    """Write the frames, seen from above, as a GIF at the pace of nuScenes: two samples a second."""
    with ProgressDisplay("drawing", len(frames)) as display:

        def pictures():
            for position in range(len(frames)):
                yield draw_birds_eye(frames[position], color_by=color_by)
                display.update(position + 1)

        save_gif(path, pictures(), seconds_each=0.5)
    say(f"{len(frames)} samples in {path}")
    return path


def with_all_sensors(dataset: Any, cfg: dict) -> Any:
    """Return the data set with points and images where they are there, for a model that looks at one of them only."""
    if type(dataset) is not NuScenesDataset or set(MODALITIES) <= set(dataset.modalities):
        return dataset
    whole = DATASETS.build({**cfg, "modalities": MODALITIES, "transforms": []})
    try:
        whole.read_sample(0)
    except (FileNotFoundError, ValueError):
        return dataset
    return whole


def mask_drawing(dataset: dict) -> DrawMapMasks | None:
    """Return the transform by which a data set's config draws the true map, or None."""
    for transform in dataset.get("transforms", ()):
        if resolve_type(transform["type"], TRANSFORMS) is DrawMapMasks:
            return TRANSFORMS.build(transform)
    return None
