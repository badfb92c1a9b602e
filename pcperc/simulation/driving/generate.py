# SPDX-License-Identifier: Apache-2.0
"""Writes a whole simulated nuScenes root: scenes in parallel, then maps and tables, then one rename."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcperc.simulation.data_set import SimulatedSet
from pcperc.simulation.driving.maps import add_layers, canvas_edge, draw_mask
from pcperc.simulation.driving.scene import RECORDINGS, locate, record_scene, scene_world
from pcperc.simulation.nuscenes_map import MapLayers
from pcperc.simulation.nuscenes_scene import SceneWriter
from pcperc.simulation.nuscenes_writer import NuScenesWriter

VERSION = "v1.0-sim"
TRAIN, VAL = "sim_train", "sim_val"


@dataclass(frozen=True)
class Settings(SimulatedSet):
    """What fixes a simulated data set bit for bit.

    Attributes:
        scenes: number of scenes, at least 2. size: "tiny", "small" or "full" (``RECORDINGS``). seed: any integer >= 0.
    """

    kind = "driving scenes in nuScenes format"
    parts = "scenes"
    generator = 1
    folder = VERSION
    sizes = RECORDINGS
    compiles = True
    least, least_is = 2, "one to train, one to score"

    scenes: int
    size: str
    seed: int

    def write_part(self, root: Path, index: int) -> SceneWriter:
        """Simulate scene ``index`` into ``root`` and return its rows."""
        location, _ = locate(index)
        world = scene_world(self.seed, index)
        scene = SceneWriter(
            root, f"sim-{index + 1:04d}", split=split_of(index, self.scenes), location=location,
            log=f"sim-log-{index + 1:04d}", description="simulated",
        )  # fmt: skip
        rng = np.random.default_rng([self.seed, index, 2])
        return record_scene(scene, world, RECORDINGS[self.size], rng)

    def finish(self, root: Path, results: dict[int, SceneWriter]) -> None:
        """Write maps and tables of all scenes."""
        places: dict[str, list[int]] = {}
        for index in range(self.scenes):
            places.setdefault(locate(index)[0], []).append(index)
        with NuScenesWriter(root, VERSION) as writer:
            for index in range(self.scenes):
                writer.add_scene(results[index])
            for location, indices in places.items():
                edge = canvas_edge(len(indices))
                roads = [scene_world(self.seed, index).road for index in indices]
                layers = MapLayers(canvas_edge=(edge, edge))
                for road in roads:
                    add_layers(layers, road)
                writer.set_map(location, draw_mask(roads, edge), layers)


def split_of(index: int, scenes: int) -> str:
    """Return the split of a scene: every fourth is for scoring, of fewer than four the last."""
    return VAL if index % 4 == 3 or (scenes < 4 and index == scenes - 1) else TRAIN
