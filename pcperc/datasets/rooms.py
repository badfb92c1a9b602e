# SPDX-License-Identifier: Apache-2.0
"""Rooms that are looked at in blocks: square columns of a room, so that every sample is of a size that networks
take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pcperc.datasets.recent import Recent
from pcperc.datasets.transformed import TransformedDataset

# x, y, z in metres; red, green, blue in [0, 1]; where in the room's extent the point lies, in [0, 1] along each axis.
ROOM_COLUMNS = ("x", "y", "z", "red", "green", "blue", "x_part", "y_part", "z_part")
ROOMS_KEPT = 2  # in memory: blocks of one room follow each other


class Room(NamedTuple):
    """A room as recorded: xyz (N, 3) float in metres, rgb (N, 3) in [0, 1], labels (N,) int64 (255 ignored) or None."""

    xyz: np.ndarray
    rgb: np.ndarray
    labels: np.ndarray | None


def room_columns(
    room: Room, rows: np.ndarray | None = None, middle: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a room as networks see them, (N, 9) float32 of `ROOM_COLUMNS`, and their origin (3,).

    Args:
        room: not empty. rows: those to take, None for all.
        middle: (2,) where x and y begin, None for the middle of the room; z begins at its lowest point.
    """
    low, high = room.xyz.min(0), room.xyz.max(0)
    middle = (low + high) / 2 if middle is None else middle
    origin = np.array([middle[0], middle[1], low[2]], np.float64)
    rows = slice(None) if rows is None else rows
    xyz = room.xyz[rows].astype(np.float64)
    extent = np.where(high > low, high - low, 1.0)
    return np.concatenate([xyz - origin, room.rgb[rows], (xyz - low) / extent], 1).astype(np.float32), origin


class RoomBlocks(TransformedDataset):
    """Base of the indoor data sets: a subclass sets ``rooms`` and has ``read_room(name)``, then calls `lay_blocks`.

    A sample is a whole room, or a block of it. Blocks are the squares, seen from above, of two grids over the room, the
    second shifted by half a block along both axes: every point is in two blocks, so that whole rooms are judged by
        votes.

    Attributes:
        rooms: names of the rooms. tokens: "<room>" or "<room>:<grid>_<i>_<j>" of each sample.
    """

    classes: tuple[str, ...]
    rooms: list[str]

    def read_room(self, name: str) -> Room:
        """Return a room as recorded."""
        raise NotImplementedError

    def lay_blocks(self, block: float | None) -> None:
        """Find the blocks of every room that hold a point; reads the rooms once. None makes rooms the samples."""
        if block is not None and not (np.isfinite(block) and block > 0):
            raise ValueError(f"{self._name}: block must be None or metres > 0, got {block}")
        self.block, self._room = block, Recent(self._read_room_with_points, most=ROOMS_KEPT)
        self._blocks: list[tuple[str, tuple[int, int, int] | None]] = []
        for name in self.rooms:
            if block is None:
                self._blocks.append((name, None))
                continue
            xyz = self._room(name).xyz
            for grid in (0, 1):
                cells = np.unique(self._cells(xyz, grid), axis=0)
                self._blocks += [(name, (grid, int(i), int(j))) for i, j in cells]
        self._room.clear()
        self.tokens = [name if cell is None else f"{name}:{'_'.join(map(str, cell))}" for name, cell in self._blocks]

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def metainfo(self) -> dict:
        """What an evaluator needs to know of this data set."""
        return {"classes": self.classes, "root": str(self.root), "split": self.split}

    def read_sample(self, index: int) -> dict:
        """Return a sample without transforms.

        Raises:
            IndexError: no such sample.
            FileNotFoundError, ValueError: a file is missing, truncated or holds something else; the message names it.
        """
        index = self.check_index(index)
        name, cell = self._blocks[index]
        room = self._room(name)
        rows, middle = np.arange(len(room.xyz)), None
        if cell is not None:
            grid, *place = cell
            rows = np.flatnonzero((self._cells(room.xyz, grid) == place).all(1))
            middle = room.xyz.min(0)[:2] + (np.array(place) + 0.5 - 0.5 * grid) * self.block
        points, origin = room_columns(room, rows, middle)
        sample = {
            "sample_token": self.tokens[index],
            "scene_name": name,
            "sample_index": index,
            "num_recorded_points": len(rows),
            "points": points,
            "origin": origin,
            "room": name,
            "room_index": rows,
            "num_room_points": len(room.xyz),
        }
        if room.labels is not None:
            sample["point_labels"] = room.labels[rows]
        return sample

    def _cells(self, xyz: np.ndarray, grid: int) -> np.ndarray:
        """(N, 2) int64: the square of a grid that each point is in."""
        place = (xyz[:, :2].astype(np.float64) - xyz[:, :2].min(0)) / self.block + 0.5 * grid
        return np.floor(place).astype(np.int64)

    def _read_room_with_points(self, name: str) -> Room:
        room = self.read_room(name)
        if len(room.xyz) == 0:
            raise ValueError(f"{self._name}: room {name} must have at least one point, but is empty")
        return room
