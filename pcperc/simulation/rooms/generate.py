# SPDX-License-Identifier: Apache-2.0
"""Writes a simulated S3DIS root: six areas of rooms, as published in text and as arrays beside it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcperc.simulation.data_set import SimulatedSet
from pcperc.simulation.rooms.room import RoomCloud, make_room

CLASSES = (
    *("ceiling", "floor", "wall", "beam", "column", "window", "door", "table", "chair", "sofa", "bookcase", "board"),
    "clutter",
)
DENSITY = {"tiny": 20.0, "small": 200.0, "full": 1500.0}  # points a square metre of surface, by size
AREAS = 6
README = """Simulated data: no rooms of S3DIS.

pcperc's room simulator wrote these rooms in the layout of S3DIS, text with annotations and arrays beside it. The
names of the rooms begin with sim_. simulation.json holds the settings.
"""


@dataclass(frozen=True)
class Settings(SimulatedSet):
    """What fixes a simulated data set.

    Attributes:
        rooms: how many, at least 6: one in each area. Areas take turns.
        size: "tiny", "small" or "full" (``DENSITY``). seed: any integer >= 0.
    """

    kind = "rooms in S3DIS format"
    parts = "rooms"
    generator = 1
    folder = "Area_1"
    sizes = DENSITY
    readme = README
    least, least_is = AREAS, "one an area"

    rooms: int
    size: str
    seed: int

    def write_part(self, root: Path, index: int) -> int:
        """Simulate and write one room; returns its number of points."""
        room, (area, name) = room_of(self, index), self.name(index)
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

    def name(self, index: int) -> tuple[str, str]:
        """Return area and name of a room."""
        return f"Area_{index % AREAS + 1}", f"sim_room_{index // AREAS + 1}"


def room_of(settings: Settings, index: int) -> RoomCloud:
    """Return room ``index``; depends on nothing but the arguments."""
    rng = np.random.default_rng([settings.seed, index, 8])
    return make_room(rng, density=DENSITY[settings.size])
