# SPDX-License-Identifier: Apache-2.0
"""Writes a whole simulated root of KITTI's object benchmark: recordings in parallel, then the lists of splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcperc.simulation.data_set import SimulatedSet
from pcperc.simulation.driving.camera import Renderer
from pcperc.simulation.driving.world import build_world
from pcperc.simulation.kitti_frame import IMAGE_SIZE, make_rig, record_frame, write_frame
from pcperc.simulation.semantickitti_lidar import COLUMNS

FOLDERS = ("velodyne", "image_2", "calib", "label_2")
FRAME_SECONDS = 1.5  # from one frame of a recording to the next
SCORED_EVERY = 4  # every fourth recording is for scoring
README = """Simulated data: no recording of KITTI.

pcperc's driving simulator wrote these frames in the layout of KITTI's object benchmark. ImageSets has lists by the
names that readers take and by names that begin with sim_. simulation.json holds the settings.
"""


@dataclass(frozen=True)
class Size:
    """How a recording is made: ``frames``, and ``columns`` firings of each beam a frame."""

    frames: int
    columns: int


SIZES = {
    "tiny": Size(frames=1, columns=256),  # for tests
    "small": Size(frames=3, columns=1024),
    "full": Size(frames=4, columns=COLUMNS),
}


@dataclass(frozen=True)
class Settings(SimulatedSet):
    """What fixes a simulated data set bit for bit.

    Attributes:
        scenes: number of recordings, at least 2, each through a world of its own.
        size: "tiny", "small" or "full" (``SIZES``). seed: any integer >= 0.
    """

    kind = "driving scenes in the format of KITTI objects"
    parts = "scenes"
    generator = 1
    folder = "training"
    sizes = SIZES
    compiles = True
    readme = README
    least, least_is = 2, "one a split"

    scenes: int
    size: str
    seed: int

    def write_part(self, root: Path, index: int) -> int:
        """Simulate and write one recording; returns its number of points."""
        for name in FOLDERS:
            (root / "training" / name).mkdir(parents=True, exist_ok=True)
        size, world = SIZES[self.size], build_world(self.seed, index, x=0.0, y=0.0)
        rng = np.random.default_rng([self.seed, index, 66])
        rig, renderer, points = make_rig(rng), Renderer(IMAGE_SIZE), 0
        for k, name in enumerate(self.frames_of(index)):
            frame = record_frame(world, k * FRAME_SECONDS, rig, renderer, rng, columns=size.columns)
            write_frame(root / "training", name, frame, rig)
            points += len(frame.points)
        return points

    def finish(self, root: Path, results: dict[int, int]) -> None:
        """Write the lists of the splits."""
        (root / "ImageSets").mkdir()
        splits = self.splits()
        for name, frames in {**splits, "trainval": sorted(sum(splits.values(), []))}.items():
            for listed in {name, name.removeprefix("sim_")}:
                text = "".join(f"{frame}\n" for frame in frames)
                (root / "ImageSets" / f"{listed}.txt").write_text(text, encoding="utf-8")

    def frames_of(self, index: int) -> list[str]:
        """Return the names of the frames of a recording."""
        count = SIZES[self.size].frames
        return [f"{index * count + k:06d}" for k in range(count)]

    def splits(self) -> dict[str, list[str]]:
        """Return the frames of each split; every fourth recording, from the second on, is for scoring."""
        found: dict[str, list[str]] = {"sim_train": [], "sim_val": []}
        for index in range(self.scenes):
            found["sim_val" if index % SCORED_EVERY == 1 else "sim_train"] += self.frames_of(index)
        return found
