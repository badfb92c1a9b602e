# SPDX-License-Identifier: Apache-2.0
"""Database of annotated objects, cut out of the training samples once and pasted into others by `GTPaste`.

A folder with, for each class, ``<class>.bin``: float32 rows ``[x, y, z, intensity, time_lag]``, one object after the
other, x, y, z relative to the centre of its box but not turned; and ``index.jsonl``: a header, then one line a sample,
``{"sample": i, "objects": [[class, first row, number of rows, box], ...]}``, null for an unknown velocity.
`pcperc.datasets.build_gt_database` writes it.
"""

import json
from pathlib import Path

import numpy as np

FORMAT = 1
NUM_COLUMNS = 5
INDEX_NAME = "index.jsonl"


class GTDatabase:
    """Read access to a database; the points are memory-mapped, so that workers share them.

    Args:
        folder: as given to `pcperc.datasets.build_gt_database`.
    Raises:
        FileNotFoundError: there is no complete database.
        ValueError: a file is shorter than its index says, or the index is broken or of another format.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / INDEX_NAME
        if not path.is_file():
            raise FileNotFoundError(f"GTDatabase: {path} is missing; tools/prepare_data.py builds it")
        header, lines = read_index(path)
        if header.get("format") != FORMAT:
            raise ValueError(
                f"GTDatabase: {path} must be of format {FORMAT}, got {header.get('format')}; build it anew"
            )
        self.classes: list[str] = header["classes"]
        entries: dict[str, list] = {name: [] for name in self.classes}
        for line in lines:
            for name, *entry in line["objects"]:
                entries[name].append(entry)
        self._starts, self._lengths, self._boxes, self._points = {}, {}, {}, {}
        for name, rows in entries.items():
            self._starts[name] = np.array([row[0] for row in rows], dtype=np.int64)
            self._lengths[name] = np.array([row[1] for row in rows], dtype=np.int64)
            boxes = np.array([row[2] for row in rows], dtype=np.float64)  # None (unknown velocity) becomes NaN
            self._boxes[name] = boxes.astype(np.float32).reshape(-1, 9)
            self._points[name] = self._map(name)

    def __len__(self) -> int:
        return sum(len(boxes) for boxes in self._boxes.values())

    def counts(self) -> dict[str, int]:
        """Return the number of objects by class."""
        return {name: len(boxes) for name, boxes in self._boxes.items()}

    def boxes(self, name: str) -> np.ndarray:
        """Return the boxes of a class, (K, 9) float32, where they stood in their samples."""
        return self._boxes[name]

    def points(self, name: str, index: int) -> np.ndarray:
        """Return the points of an object, (N, 5) float32, at the place where its box stood."""
        start = self._starts[name][index]
        points = np.array(self._points[name][start : start + self._lengths[name][index]])
        points[:, :3] += self._boxes[name][index, :3]
        return points

    def _map(self, name: str) -> np.ndarray:
        path = self.folder / f"{name}.bin"
        rows = int((self._starts[name] + self._lengths[name]).max(initial=0))
        if not path.is_file() or path.stat().st_size != rows * NUM_COLUMNS * 4:
            size = path.stat().st_size if path.is_file() else "no file"
            raise ValueError(f"GTDatabase: {path} must have {rows * NUM_COLUMNS * 4} bytes, got {size}; build it anew")
        if rows == 0:
            return np.zeros((0, NUM_COLUMNS), dtype=np.float32)
        return np.memmap(path, dtype="<f4", mode="r", shape=(rows, NUM_COLUMNS))

    def __getstate__(self) -> dict:
        return {"folder": self.folder}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["folder"])  # a started worker maps the files anew instead of receiving them by pipe


def read_index(path: Path) -> tuple[dict, list[dict]]:
    """Return the header and the whole lines; a last line without its newline is left out.

    Raises:
        ValueError: a line is not a JSON object.
    """
    with open(path, encoding="utf-8") as file:
        try:
            lines = [json.loads(line) for line in file if line.endswith("\n")]
        except ValueError as error:
            raise ValueError(f"GTDatabase: {path} must have a JSON object on each line; build it anew") from error
    if not all(isinstance(line, dict) for line in lines):
        raise ValueError(f"GTDatabase: {path} must have a JSON object on each line; build it anew")
    return (lines[0], lines[1:]) if lines else ({}, [])
