# SPDX-License-Identifier: Apache-2.0
"""Predictions beside the truth: an interactive scene, or pictures in a folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from pcperc.datasets import CAMERAS, CalorimeterHits, NuScenesDataset, SemanticKITTI, collate
from pcperc.datasets.nuscenes import MODALITIES
from pcperc.engine.cloud_visualizing import CLOUDS, save_cloud_pictures
from pcperc.engine.config import ConfigError
from pcperc.engine.data import build_test_dataset, configs_with_data
from pcperc.engine.distributed import pick_device
from pcperc.engine.event_visualizing import EventFrames, show_events
from pcperc.engine.loading import build_model, open_checkpoint
from pcperc.engine.messages import say
from pcperc.engine.progress import ProgressDisplay
from pcperc.evaluation import (
    read_results,
    read_semantickitti_predictions,
    read_tracking_results,
    rows_to_detections,
    rows_to_tracks,
)
from pcperc.geometry import Detections, MapPrediction, PointLabels, Tracks, invert_rigid, transform_points
from pcperc.registry import DATASETS, TRANSFORMS, resolve_type
from pcperc.transforms import DrawMapMasks
from pcperc.visualization import (
    Frame,
    SceneViewer,
    default_coloring,
    draw_birds_eye,
    draw_camera_mosaic,
    draw_map,
    open3d_problem,
    render_scene,
    save_gif,
    save_png,
)
from pcperc.visualization.scene_viewer import HELP

Prediction = Detections | PointLabels | MapPrediction
Predict = Callable[[int, dict], Prediction | dict[str, Prediction] | None]


@dataclass(frozen=True)
class VisualizeOptions:
    """What the command line says; see tools/README.md."""

    config: Path
    checkpoint: Path | None = None
    results: Path | None = None
    save: Path | None = None
    gif: Path | None = None
    scene: str | None = None
    split: str | None = None
    max_samples: int = 10
    score_threshold: float = 0.2
    map_threshold: float = 0.5
    color_by: str | None = None
    data_root: str | None = None
    device: str | None = None


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
        draw_masks: DrawMapMasks | None = None,
        trails: Callable[[int], dict[int, np.ndarray]] = lambda index: {},
    ) -> None:
        self.dataset, self.indices, self.predict, self.trails = dataset, list(indices), predict, trails
        self.score_threshold, self.simulated, self.draw_masks = score_threshold, simulated, draw_masks
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
        )
        return replace(frame, trails=self.trails(index)).above(self.score_threshold)


def visualize(options: VisualizeOptions) -> list[Path]:
    """Show or save what the options ask for.

    Returns:
        The pictures that were saved; none for the interactive scene.
    Raises:
        CheckpointError, ConfigError, DataMissing, DeviceError, ValueError, SceneError: see there; the last where
            there is no display and ``save`` is not given.
    """
    if options.checkpoint is not None and options.results is not None:
        raise ConfigError("visualize: a checkpoint or --results must be given, not both")
    if options.gif is not None and options.save is not None:
        raise ConfigError("visualize: --save or --gif must be given, not both")
    if options.max_samples < 0:
        raise ConfigError(f"visualize: --max-samples must be 0 (all) or more, got {options.max_samples}")
    cfg, dataset, predict = _source(options)
    names = f"{cfg.get('data_version', '')} {cfg.test_dataloader.dataset.get('split', '')}"
    if isinstance(dataset, CLOUDS):
        if options.gif is not None or options.scene is not None:
            raise ConfigError("visualize: --gif and --scene are for scenes, shapes, rooms and frustums have none")
        sim = "sim" in names
        return save_cloud_pictures(dataset, predict, options.save, max_samples=options.max_samples, simulated=sim)
    everything = _samples_of_scene(dataset, options)
    few = options.save is not None and 0 < options.max_samples < len(everything)
    chosen = np.linspace(0, len(everything) - 1, options.max_samples if few else len(everything)).round().astype(int)
    indices = [everything[position] for position in chosen]
    if isinstance(dataset, CalorimeterHits):
        if options.gif is not None:
            raise ConfigError("visualize: --gif is for scenes, events have none")
        events = EventFrames(dataset, indices, predict, simulated="sim" in names)
        return show_events(events, options.save, options.color_by)
    frames = Frames(
        with_all_sensors(dataset, cfg.test_dataloader.dataset),
        indices,
        predict,
        score_threshold=options.score_threshold,
        simulated="sim" in names,
        draw_masks=_mask_drawing(cfg.test_dataloader.dataset),
        **({"trails": predict.trails} if isinstance(predict, _FromTracks) else {}),
    )
    color_by = options.color_by or default_coloring(frames[0])
    if options.save is not None:
        return save_pictures(frames, options.save, color_by=color_by, map_threshold=options.map_threshold)
    if options.gif is not None:
        return [save_animation(frames, options.gif, color_by=color_by)]
    viewer = SceneViewer(frames, color_by=color_by, report=say)
    say(HELP)
    viewer.run()
    return []


def save_pictures(frames: Frames, folder: Path, *, color_by: str = "height", map_threshold: float = 0.5) -> list[Path]:
    """Write the pictures of each frame; what Open3D or images are missing for is said once and left out."""
    problem = open3d_problem()
    if problem:
        say(f"{problem}; the other pictures are drawn")
    saved = []
    with ProgressDisplay("drawing", len(frames)) as display:
        for position, index in enumerate(frames.indices):
            frame = frames[position]
            stem = f"{index:04d}_{frame.file_name if '/' in frame.token else frame.token[:8]}"
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
    say(f"{len(saved)} pictures of {len(frames)} samples in {folder}")
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


def _samples_of_scene(dataset: Any, options: VisualizeOptions) -> list[int]:
    """Return the samples to look at: all, or those of one scene, the first where a GIF names none."""
    everything = list(range(len(dataset)))
    if options.scene is None and options.gif is None:
        return everything
    if not hasattr(dataset, "read_record"):
        raise ConfigError(f"visualize: --scene and --gif need a data set of scenes, got {type(dataset).__name__}")
    names = [dataset.read_record(index)["scene_name"] for index in everything]
    scene = options.scene or names[0]
    if scene not in names:
        raise ConfigError(f"visualize: --scene must be one of {', '.join(dict.fromkeys(names))}, got {scene}")
    return [index for index in everything if names[index] == scene]


def _source(options: VisualizeOptions) -> tuple[Config, Any, Predict]:
    """Return the config, the data set and where predictions come from."""
    if options.checkpoint is not None:
        device = pick_device(options.device)
        opened = open_checkpoint(options.checkpoint, options.config, data_root=options.data_root)
        cfg = Config(dict(opened.cfg.items()))
        dataset = build_test_dataset(cfg, options.split)
        return cfg, dataset, _from_model(build_model(opened, device), dataset)
    candidates = configs_with_data(options.config, options.data_root)
    if options.results is None:
        cfg = candidates[0]
        return cfg, build_test_dataset(cfg, options.split), lambda index, sample: None
    if options.results.is_dir():
        return _with_label_files(options, candidates)
    results, tracked = _read_any_results(options.results)
    for cfg in candidates:
        dataset = build_test_dataset(cfg, options.split)
        if all(dataset.read_record(index)["sample_token"] in results for index in range(len(dataset))):
            return cfg, dataset, (_FromTracks if tracked else _from_results)(results, dataset)
    raise ConfigError(
        f"{options.results} must hold every sample of {options.split or 'the test split'} of {options.config}, "
        f"but lacks some; --split and --data-root choose other data"
    )


def _read_any_results(path: Path) -> tuple[dict[str, list[dict]], bool]:
    """Return the rows of a results file, and whether they are tracks; the error of a broken one is of its own kind."""
    try:
        return read_results(path), False
    except ValueError as error:
        if "detection_" not in str(error):
            raise
        return read_tracking_results(path), True


def _with_label_files(options: VisualizeOptions, candidates: Sequence[Config]) -> tuple[Config, Any, Predict]:
    """Take the predictions that tools/test.py wrote into a folder for SemanticKITTI."""
    for cfg in candidates:
        dataset = build_test_dataset(cfg, options.split)
        if isinstance(dataset, SemanticKITTI):
            return cfg, dataset, _from_label_files(options.results, dataset)
    raise ConfigError(f"{options.results}: a folder must be of SemanticKITTI predictions, {options.config} has none")


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


def _mask_drawing(dataset: dict) -> DrawMapMasks | None:
    """Return the transform by which a data set's config draws the true map, or None."""
    for transform in dataset.get("transforms", ()):
        if resolve_type(transform["type"], TRANSFORMS) is DrawMapMasks:
            return TRANSFORMS.build(transform)
    return None


def _from_model(model: nn.Module, dataset: Any) -> Predict:
    def predict(index: int, _sample: dict) -> Prediction | dict[str, Prediction]:
        with torch.inference_mode():
            result = model.test_step(collate([dataset[index]]))[0]
        if isinstance(result, dict):
            return {task: value.to("cpu") for task, value in result.items()}
        return result.to("cpu")

    return predict


def _from_results(results: dict[str, list[dict]], dataset: Any) -> Predict:
    def predict(_index: int, sample: dict) -> Detections:
        lidar2global = sample["ego2global"] @ sample["lidar2ego"]
        return rows_to_detections(results[sample["sample_token"]], lidar2global, classes=dataset.classes)

    return predict


class _FromTracks:
    """The tracks of a results file, and where each of them was in the samples of its scene before."""

    def __init__(self, results: dict[str, list[dict]], dataset: Any) -> None:
        self.results, self.dataset = results, dataset
        self._records = [dataset.read_record(index) for index in range(len(dataset))]

    def __call__(self, index: int, _sample: dict) -> Tracks:
        rows = self.results[self._records[index]["sample_token"]]
        return rows_to_tracks(rows, self._lidar2global(index), classes=self.dataset.classes)

    def trails(self, index: int) -> dict[int, np.ndarray]:
        """Return `Frame.trails` of a sample."""
        own = self._records[index]
        times = [(r["timestamp_us"], i) for i, r in enumerate(self._records) if r["scene_name"] == own["scene_name"]]
        trails: dict[int, list] = {}
        for _, earlier in sorted(time for time in times if time[0] <= own["timestamp_us"]):
            tracks = rows_to_tracks(
                self.results[self._records[earlier]["sample_token"]], np.eye(4), classes=self.dataset.classes
            ).numpy()
            for number, box in zip(tracks.ids.tolist(), tracks.boxes, strict=True):
                trails.setdefault(number, []).append(box[:3])
        to_lidar = invert_rigid(self._lidar2global(index))
        return {number: transform_points(np.array(places, np.float64), to_lidar) for number, places in trails.items()}

    def _lidar2global(self, index: int) -> np.ndarray:
        record = self._records[index]
        return np.array(record["ego2global"]) @ np.array(record["lidar2ego"])


def _from_label_files(folder: Path, dataset: SemanticKITTI) -> Predict:
    def predict(_index: int, sample: dict) -> PointLabels:
        labels = read_semantickitti_predictions(folder, sample["sample_token"], label_map=dataset.label_map)
        return PointLabels(torch.from_numpy(labels), torch.ones(len(labels)))

    return predict
