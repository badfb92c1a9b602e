# SPDX-License-Identifier: Apache-2.0
"""Predictions beside the truth: an interactive scene, or pictures in a folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pcperc.datasets import CalorimeterHits
from pcperc.engine.cloud_visualizing import CLOUDS, show_clouds
from pcperc.engine.config import ConfigError
from pcperc.engine.data import is_simulated
from pcperc.engine.event_visualizing import EventFrames, show_events
from pcperc.engine.inferred_files import InferredFiles, find_results, kind_of, open_results
from pcperc.engine.prediction_sources import Predict, TrackPredictions, open_predictions
from pcperc.engine.scene_visualizing import (
    Frames,
    mask_drawing,
    save_animation,
    save_pictures,
    show_scene,
    with_all_sensors,
)
from pcperc.visualization import default_coloring


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


class _View(NamedTuple):
    """A data set to look at."""

    dataset: Any
    description: dict  # the data set's in the config
    predict: Predict
    simulated: bool
    trained_on_simulated: Callable[[int], bool]  # of a sample's index: whether the network of its predictions was


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
    view = _open_files(options) or _open_samples(options)
    show = next((show for kinds, show in _SHOWN_BY if issubclass(kind_of(view.dataset), kinds)), _show_scenes)
    return show(view, options)


def _open_files(options: VisualizeOptions) -> _View | None:
    """Return the files that infer.py read, where the results are its own."""
    found = [] if options.results is None else find_results(options.results)
    if not found:
        if options.results is not None and options.results.is_dir() and not (options.results / "sequences").is_dir():
            kinds = "<file>.json of tools/infer.py, or sequences/ of tools/test.py for SemanticKITTI"
            raise ConfigError(f"visualize: --results {options.results}: a folder must hold {kinds}")
        return None
    for name in ("split", "scene", "data_root", "gif"):
        if getattr(options, name) is not None:
            given = name.replace("_", "-")
            raise ConfigError(f"visualize: --{given} is for samples of a data set, {options.results} is of files")
    cfg, files = open_results(found, options.config)
    return _View(files, cfg.test_dataloader.dataset, files.predict, False, files.trained_on_simulated)


def _open_samples(options: VisualizeOptions) -> _View:
    """Return the samples of the config's data set, and what gives their predictions."""
    cfg, dataset, predict, trained_on_simulated = open_predictions(
        options.config,
        checkpoint=options.checkpoint,
        results=options.results,
        split=options.split,
        data_root=options.data_root,
        device=options.device,
    )
    description = cfg.test_dataloader.dataset
    return _View(dataset, description, predict, is_simulated(cfg), lambda index: trained_on_simulated)


def _show_clouds(view: _View, options: VisualizeOptions) -> list[Path]:
    if options.gif is not None or options.scene is not None:
        raise ConfigError("visualize: --gif and --scene are for scenes, shapes, rooms and frustums have none")
    if options.color_by is not None:
        views = "pictures have all views of shapes, rooms and frustums, and C goes through them in the window"
        raise ConfigError(f"visualize: --color-by {options.color_by} is for scenes and events; {views}")
    told = dict(simulated=view.simulated, trained_on_simulated=view.trained_on_simulated)
    return show_clouds(view.dataset, view.predict, options.save, max_samples=options.max_samples, **told)


def _show_events(view: _View, options: VisualizeOptions) -> list[Path]:
    indices = _chosen_samples(view.dataset, options)
    if options.gif is not None:
        raise ConfigError("visualize: --gif is for scenes, events have none")
    told = dict(simulated=view.simulated, trained_on_simulated=view.trained_on_simulated)
    events = EventFrames(view.dataset, indices, view.predict, **told)
    return show_events(events, options.save, options.color_by)


def _show_scenes(view: _View, options: VisualizeOptions) -> list[Path]:
    indices = _chosen_samples(view.dataset, options)
    frames = Frames(
        with_all_sensors(view.dataset, view.description),
        indices,
        view.predict,
        score_threshold=options.score_threshold,
        simulated=view.simulated,
        trained_on_simulated=view.trained_on_simulated,
        draw_masks=None if isinstance(view.dataset, InferredFiles) else mask_drawing(view.description),
        **({"trails": view.predict.trails} if isinstance(view.predict, TrackPredictions) else {}),
    )
    color_by = options.color_by or default_coloring(frames[0])
    if options.save is not None:
        return save_pictures(frames, options.save, color_by=color_by, map_threshold=options.map_threshold)
    if options.gif is not None:
        return [save_animation(frames, options.gif, color_by=color_by)]
    show_scene(frames, color_by=color_by)
    return []


# By the kinds of data sets; all others are of scenes.
_SHOWN_BY: tuple[tuple[Any, Callable[[_View, VisualizeOptions], list[Path]]], ...] = (
    (CLOUDS, _show_clouds),
    (CalorimeterHits, _show_events),
)


def _chosen_samples(dataset: Any, options: VisualizeOptions) -> list[int]:
    """Return the samples to look at; of pictures in a folder max_samples at most, spread over all."""
    everything = _samples_of_scene(dataset, options)
    few = options.save is not None and 0 < options.max_samples < len(everything)
    chosen = np.linspace(0, len(everything) - 1, options.max_samples if few else len(everything)).round().astype(int)
    return [everything[position] for position in chosen]


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
