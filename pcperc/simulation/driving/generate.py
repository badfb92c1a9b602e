# SPDX-License-Identifier: Apache-2.0
"""Writes a whole simulated nuScenes root: scenes in parallel, then maps and tables, then one rename."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pcperc.simulation.driving.maps import add_layers, canvas_edge, draw_mask
from pcperc.simulation.driving.scene import RECORDINGS, locate, record_scene, scene_world
from pcperc.simulation.folder import write_folder
from pcperc.simulation.nuscenes_map import MapLayers
from pcperc.simulation.nuscenes_scene import SceneWriter
from pcperc.simulation.nuscenes_writer import NuScenesWriter
from pcperc.simulation.workers import run_jobs

VERSION = "v1.0-sim"
TRAIN, VAL = "sim_train", "sim_val"
GENERATOR = 1  # raise whenever the same settings give other bytes


@dataclass(frozen=True)
class Settings:
    """What fixes a simulated data set bit for bit.

    Attributes:
        scenes: number of scenes, at least 2. size: "tiny", "small" or "full" (``RECORDINGS``). seed: any integer >= 0.
    """

    scenes: int
    size: str
    seed: int

    def __post_init__(self) -> None:
        if not isinstance(self.scenes, int) or self.scenes < 2:
            raise ValueError(
                f"simulate: scenes must be an integer >= 2 (one to train, one to score), got {self.scenes}"
            )
        if self.size not in RECORDINGS:
            raise ValueError(f"simulate: size must be one of {', '.join(RECORDINGS)}, got {self.size!r}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"simulate: seed must be an integer >= 0, got {self.seed}")

    def stamp(self) -> dict:
        """Return what ``STAMP`` holds."""
        return {"simulated": "driving scenes in nuScenes format", "generator": GENERATOR, **asdict(self)}


def split_of(index: int, scenes: int) -> str:
    """Return the split of a scene: every fourth is for scoring, of fewer than four the last."""
    return VAL if index % 4 == 3 or (scenes < 4 and index == scenes - 1) else TRAIN


def make_scene(root: Path, settings: Settings, index: int) -> SceneWriter:
    """Simulate scene ``index`` into ``root`` and return its rows; depends on nothing but the arguments."""
    location, _ = locate(index)
    world = scene_world(settings.seed, index)
    scene = SceneWriter(
        root, f"sim-{index + 1:04d}", split=split_of(index, settings.scenes), location=location,
        log=f"sim-log-{index + 1:04d}", description="simulated",
    )  # fmt: skip
    rng = np.random.default_rng([settings.seed, index, 2])
    return record_scene(scene, world, RECORDINGS[settings.size], rng)


def simulate(out: str | Path, settings: Settings, *, workers: int = 1, overwrite: bool = False, progress=None) -> bool:
    """Write a simulated data set, or keep the one that is there if it was made with the same settings.

    Args:
        out: folder of the data set; complete whenever it exists (``write_folder``).
        workers: processes; the result does not depend on it.
        overwrite: replace a simulated data set of other settings. A folder that the simulator did not write is never
            touched.
        progress: called with (scenes done, scenes in all) as work goes on.
    Returns:
        True where it was written, False where it was there.
    Raises:
        FileExistsError: ``out`` holds something else. OSError: the disk is full or not writable.
    """

    def write(root: Path) -> None:
        _write_tables(root, settings, _run(root, settings, workers, progress))

    return write_folder(out, settings.stamp(), write, part=VERSION, overwrite=overwrite)


def _run(root: Path, settings: Settings, workers: int, progress) -> dict[int, SceneWriter]:
    """Simulate all scenes, in this process or in several."""
    return run_jobs(functools.partial(make_scene, root, settings), settings.scenes, workers=workers, progress=progress)


def _write_tables(root: Path, settings: Settings, scenes: dict[int, SceneWriter]) -> None:
    """Write maps and tables of all scenes."""
    places: dict[str, list[int]] = {}
    for index in range(settings.scenes):
        places.setdefault(locate(index)[0], []).append(index)
    with NuScenesWriter(root, VERSION) as writer:
        for index in range(settings.scenes):
            writer.add_scene(scenes[index])
        for location, indices in places.items():
            edge = canvas_edge(len(indices))
            roads = [scene_world(settings.seed, index).road for index in indices]
            layers = MapLayers(canvas_edge=(edge, edge))
            for road in roads:
                add_layers(layers, road)
            writer.set_map(location, draw_mask(roads, edge), layers)
