# SPDX-License-Identifier: Apache-2.0
"""Writes a simulated S3DIS root: six areas of rooms, as published in text and as arrays beside it."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pcperc.simulation.folder import write_folder
from pcperc.simulation.rooms.room import RoomCloud, make_room
from pcperc.simulation.workers import run_jobs

CLASSES = (
    *("ceiling", "floor", "wall", "beam", "column", "window", "door", "table", "chair", "sofa", "bookcase", "board"),
    "clutter",
)
DENSITY = {"tiny": 20.0, "small": 200.0, "full": 1500.0}  # points a square metre of surface, by size
AREAS = 6
GENERATOR = 1  # raise whenever the same settings give other rooms
README = """Simulated data: no rooms of S3DIS.

pcperc's room simulator wrote these rooms in the layout of S3DIS, text with annotations and arrays beside it. The
names of the rooms begin with sim_. simulation.json holds the settings.
"""


@dataclass(frozen=True)
class Settings:
    """What fixes a simulated data set.

    Attributes:
        rooms: how many, at least 6: one in each area. Areas take turns.
        size: "tiny", "small" or "full" (``DENSITY``). seed: any integer >= 0.
    """

    rooms: int
    size: str
    seed: int

    def __post_init__(self) -> None:
        if not isinstance(self.rooms, int) or self.rooms < AREAS:
            raise ValueError(f"simulate: rooms must be an integer >= {AREAS} (one an area), got {self.rooms}")
        if self.size not in DENSITY:
            raise ValueError(f"simulate: size must be one of {', '.join(DENSITY)}, got {self.size!r}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"simulate: seed must be an integer >= 0, got {self.seed}")

    def stamp(self) -> dict:
        """Return what simulation.json holds."""
        return {"simulated": "rooms in S3DIS format", "generator": GENERATOR, **asdict(self)}

    def name(self, index: int) -> tuple[str, str]:
        """Return area and name of a room."""
        return f"Area_{index % AREAS + 1}", f"sim_room_{index // AREAS + 1}"


def room_of(settings: Settings, index: int) -> RoomCloud:
    """Return room ``index``; depends on nothing but the arguments."""
    rng = np.random.default_rng([settings.seed, index, 8])
    return make_room(rng, density=DENSITY[settings.size])


def write_room(root: Path, settings: Settings, index: int) -> int:
    """Simulate and write one room; returns its number of points."""
    room, (area, name) = room_of(settings, index), settings.name(index)
    folder, counts, tables = root / area / name / "Annotations", Counter(), {}
    folder.mkdir(parents=True)
    for number, kind in enumerate(room.names):
        rows = room.thing == number
        if not rows.any():
            continue
        counts[kind] += 1
        lines = [
            f"{x:.3f} {y:.3f} {z:.3f} {r} {g} {b}"
            for (x, y, z), (r, g, b) in zip(room.xyz[rows].tolist(), room.rgb[rows].tolist(), strict=True)
        ]
        (folder / f"{kind}_{counts[kind]}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        columns = (room.xyz[rows].round(3), room.rgb[rows], np.full((int(rows.sum()), 1), CLASSES.index(kind)))
        tables[f"{kind}_{counts[kind]}.txt"] = np.concatenate(columns, 1)
    table = np.concatenate([tables[file] for file in sorted(tables)]).astype(np.float32)
    np.save(root / f"{area}_{name}.npy", table, allow_pickle=False)
    texts = (path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt")))
    (root / area / name / f"{name}.txt").write_text("".join(texts), encoding="utf-8")
    return len(table)


def simulate(
    out: str | Path,
    settings: Settings,
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Write a simulated S3DIS root, or keep what is there if it was made with the same settings.

    Args:
        out: folder of the data set; complete whenever it exists (``write_folder``).
        workers: processes; the result does not depend on it.
        overwrite: replace a simulated data set of other settings.
        progress: called with (rooms done, rooms in all) as work goes on.
    Returns:
        True where it was written, False where it was there.
    Raises:
        FileExistsError: ``out`` holds something else. OSError: the disk is full or not writable.
    """

    def write(root: Path) -> None:
        run_jobs(functools.partial(write_room, root, settings), settings.rooms, workers=workers, progress=progress)
        (root / "README.md").write_text(README, encoding="utf-8")

    return write_folder(out, settings.stamp(), write, part="Area_1", overwrite=overwrite)
