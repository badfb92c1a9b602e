# SPDX-License-Identifier: Apache-2.0
"""The files of a batch inference: each has the boxes of its good frames and, in the same file, which others failed.

So a part is replaced in one step, and at any moment a frame is in it once, failed, or in a part that is missing.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pcperc.tables import import_arrow, read_metadata, read_table, write_table

BOX_COLUMNS = ("x", "y", "z", "length", "width", "height", "yaw", "vx", "vy")
COLUMNS = ("frame", "scene", "timestamp", "class", "score", *BOX_COLUMNS, "worker")
FAILURES_KEY = "pcperc.failures"  # of a part's metadata


class Failure(NamedTuple):
    """A frame without boxes: its number in the run, its name, and why."""

    index: int
    frame: str
    error: str


def part_paths(out: Path, num_frames: int, frames_per_part: int) -> list[Path]:
    """Return the file of each part."""
    return [out / f"part-{number:06d}.parquet" for number in range(-(-num_frames // frames_per_part))]


def write_part(path: Path, rows: Sequence[dict[str, Any]], failures: Iterable[Failure]) -> None:
    """Write a part whole: a row of `COLUMNS` for each good frame, in order, and the frames that failed."""
    columns = {name: [row[name] for row in rows] for name in COLUMNS}
    metadata = {FAILURES_KEY: json.dumps([failure._asdict() for failure in failures])}
    write_table(path, columns, schema=_schema().with_metadata(metadata))


def read_failures(path: Path) -> list[Failure]:
    """Return the frames of a part that failed; of a part that says nothing of them none did."""
    return [Failure(**failure) for failure in json.loads(read_metadata(path).get(FAILURES_KEY, "[]"))]


def read_part(path: Path, frames: range) -> tuple[dict[int, dict[str, Any]], list[Failure]]:
    """Return the rows of a part by frame, and its failures.

    Args:
        frames: of the run, which the part is of.
    Raises:
        ValueError: the part is of another number of frames, or cannot be read.
    """
    failures = read_failures(path)
    table = read_table(path, COLUMNS)
    failed = {failure.index for failure in failures}
    good = [index for index in frames if index not in failed]
    if len(table["frame"]) != len(good):
        got = f"{len(table['frame'])} and {len(failed)} that failed"
        raise ValueError(f"{path}: must have the {len(frames)} frames from {frames.start} on, got {got}")
    return {index: {name: table[name][row] for name in COLUMNS} for row, index in enumerate(good)}, failures


def _schema() -> Any:
    """The types of the columns: they are the same where no frame of a part has a box, or where all failed."""
    arrow = import_arrow()
    text, number = arrow.string(), arrow.list_(arrow.float32())
    types = {name: number for name in COLUMNS} | dict.fromkeys(("frame", "scene", "worker"), text)
    return arrow.schema(list((types | {"timestamp": arrow.float64(), "class": arrow.list_(text)}).items()))
