# SPDX-License-Identifier: Apache-2.0
"""The file of a GPU: which convolution kernel is fastest for which sizes. csrc/cuda/selection_file.h reads it."""

import os
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

import pcperc.ops
from pcperc.files import write_text

COLUMNS = ("pass", "dtype", "rows", "in", "out", "taps", "kernel", "blocks", "ms")


class Sizes(NamedTuple):
    """What a choice is looked up by. ``rows`` are those of the output."""

    pass_name: str  # "forward" or "weight_grad"
    dtype: str  # "float16", "bfloat16" or "tf32"
    rows: int
    in_channels: int
    out_channels: int
    taps: int


@dataclass(frozen=True)
class Choice:
    """The kernel by number, its blocks and what it takes.

    ``blocks`` share a tile in the forward pass; in the weight gradient they run on one multiprocessor, 0 is as many as
    it has room for.
    """

    kernel: int
    blocks: int
    ms: float


@dataclass
class Selection:
    """The choices of one GPU (:func:`gpu_name`). ``notes`` are a line for each run that measured some of them."""

    gpu: str
    notes: list[str] = field(default_factory=list)
    choices: dict[Sizes, Choice] = field(default_factory=dict)


def gpu_name(device: torch.device) -> str:
    """Return the compute capability and the multiprocessors, "sm_90_132" for an H100 SXM.

    Models that agree in this share a file, as H100 SXM, H200 and GH200: they run the same kernels in the same waves.
    """
    properties = torch.cuda.get_device_properties(device)
    return f"sm_{properties.major}{properties.minor}_{properties.multi_processor_count}"


def folders() -> list[Path]:
    """Return where files are looked for: $PCPERC_SELECTION where it is set, then the folder of the package."""
    own = os.environ.get("PCPERC_SELECTION")
    package = Path(pcperc.ops.__file__).parent / "selection"
    return [Path(own), package] if own else [package]


def load_or_start(gpu: str, path: Path) -> Selection:
    """Return the selection in the file ``path``; where there is none, that in use on such a GPU, or an empty one.

    Raises:
        ValueError: a file that is not of this form or of another GPU; names the file and the line.
    """
    for found in [path, *(folder / f"{gpu}.txt" for folder in folders())]:
        if found.is_file():
            return parse_selection(found.read_text(encoding="utf-8", errors="replace").splitlines(), found, gpu)
    return Selection(gpu)


def parse_selection(lines: Iterable[str], path: Path, gpu: str) -> Selection:
    """Read the lines of a file. Whether the kernels exist is checked where they are used."""
    first, *rest = [*lines, ""]
    if first != (title := _title(gpu)):
        raise ValueError(f'{path}:1: must be "{title}", got "{first}"')
    selection, has_columns = Selection(gpu), False
    for number, line in enumerate(rest, 2):
        words = line.split()
        if words and words[0].startswith("#"):
            selection.notes.append(line.strip().removeprefix("#").strip())
        elif words and not has_columns:
            if tuple(words) != COLUMNS:
                raise ValueError(f"{path}:{number}: columns must be {' '.join(COLUMNS)}, got {line}")
            has_columns = True
        elif words:
            try:
                pass_name, dtype, *sizes, kernel, blocks, ms = words
                key = Sizes(pass_name, dtype, *map(int, sizes))
                choice = Choice(int(kernel), int(blocks), float(ms))
            except (TypeError, ValueError):
                raise ValueError(f"{path}:{number}: must be {' '.join(COLUMNS)}, got {line}") from None
            if key in selection.choices:
                raise ValueError(f"{path}:{number}: these sizes have a line above, got {line}")
            selection.choices[key] = choice
    return selection


def save_selection(selection: Selection, path: Path) -> None:
    """Write the file whole, sorted.

    Raises:
        OSError: it cannot be written; the file is then what it was before.
    """
    lines = [_title(selection.gpu), *(f"# {note}" for note in selection.notes)]
    lines.append(_line(COLUMNS))
    order = sorted(selection.choices, key=lambda s: (s.pass_name, s.dtype, s.taps, *s[3:5], s.rows))
    for sizes in order:
        *words, ms = *sizes, *astuple(selection.choices[sizes])
        lines.append(_line((*words, f"{ms:.4f}")))
    write_text(path, "\n".join(lines) + "\n")


def _title(gpu: str) -> str:
    return f"pcperc selection 1: {gpu}"


def _line(words: Iterable[object]) -> str:
    first, second, *rest = words
    return f"{first:12}{second:9}" + "".join(f"{word:>8}" for word in rest)
