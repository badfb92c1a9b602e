# SPDX-License-Identifier: Apache-2.0
"""tools/benchmark.py tune: which CUDA kernel of the convolution is fastest for which sizes, in the file of this GPU."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch

import pcperc
from pcperc.benchmark.inputs import Sweep, load_sweep
from pcperc.benchmark.peer_libraries import open_libraries
from pcperc.benchmark.report import Report, start_report
from pcperc.benchmark.selection import Choice, Selection, folders, gpu_name, load_or_start, save_selection
from pcperc.benchmark.timing import graph_ms
from pcperc.benchmark.tuned_size import Candidate, TunedSize, best_of, make_map
from pcperc.engine.distributed import DeviceError, pick_device
from pcperc.engine.messages import say
from pcperc.engine.progress import ProgressDisplay

DTYPES = ("float16", "bfloat16", "tf32")
PASSES = ("forward", "weight_grad")
# Channels of the networks in pcperc.models, and those of their input gradients.
_SUBMANIFOLD = (
    "16 32 64 96 128 256 32-64 64-32 64-128 128-64 96-128 128-96 128-192 192-128 128-256 256-128 256-384 384-256"
)
CHANNELS = {
    "subm_k3": _SUBMANIFOLD,
    "down_k2s2": "32 64 128 256 96-128 128-256",
    "inverse_k2s2": "32 64 128 256 128-96 256-128",
    "down_k3s2": "16-32 32-64 64-128 128",
    "inverse_k3s2": "32-16 64-32 128-64 128",
}
VOXELS = (2_000, 8_000, 32_000, 128_000, 512_000)  # an entry serves rows of up to twice and down to half
_GLANCE, _LOOK = 0.0, 0.03  # seconds of replays, at least 5 of them: for each kernel, and for those near the fastest
COLUMNS = {
    "pass": "", "case": "", "dtype": "", "rows": ",d", "in": "d", "out": "d", "taps": "d", "now": "", "now_ms": ".4f",
    "best": "", "best_ms": ".4f", "ratio": ".3f", "tflops": ".1f", "candidates": "d", "error": ".1e", "wrong": "",
}  # fmt: skip


@dataclass(frozen=True)
class TuneOptions:
    """What the command line says; see tools/README.md."""

    cases: Sequence[str] = tuple(CHANNELS)
    passes: Sequence[str] = PASSES
    channels: Sequence[tuple[int, int]] | None = None  # in, out; None is CHANNELS
    voxels: Sequence[int | None] = VOXELS
    dtype: Sequence[str] = DTYPES
    input: Path | None = None
    voxel_size: float = 0.1
    device: str | None = None
    output: Path | None = None
    again: bool = False  # measure what the file has, too
    json: Path | None = None


def tune(options: TuneOptions) -> Report:
    """Time all kernels that may run for each size, write the file of this GPU after each size, and print the table.

    Raises:
        DeviceError: there is no GPU.
        KeyboardInterrupt: behind the table of what was measured until then, which the file has.
        OSError: the file cannot be written.
        RuntimeError: behind the table, where a kernel's result was wrong; it is in no file.
    """
    device = pick_device(options.device)
    if device.type != "cuda":
        raise DeviceError("tune: needs a GPU")
    torch.cuda.set_device(device)
    path = output_path(options.output, gpu_name(device))
    selection = load_or_start(gpu_name(device), path)
    sweep = load_sweep(options.input, options.voxel_size)
    report = start_report("tune", device, open_libraries(())[0], sweep, ())
    facts = report.environment
    note = f"{date.today()}: {facts['device']}, torch {facts['torch']}, pcperc {pcperc.__version__} {facts['commit']}, "
    note += f"{sweep.name} at {sweep.voxel_size} m"
    selection.notes += [] if note in selection.notes else [note]
    total = sum(len(_channels(options, case)) for case in options.cases) * len(options.voxels)
    stopped = None
    try:
        with ProgressDisplay("tuning", total * len(options.dtype) * len(options.passes)) as display:
            for problem, text in _problems(options, sweep, device):
                display.update(display.done, text)
                is_due = options.again or problem.sizes not in selection.choices
                row = _measure(problem, selection) if is_due else None
                if row is not None:
                    save_selection(selection, path)
                    report.rows.append(row)
                display.advance()
    except KeyboardInterrupt:
        stopped = KeyboardInterrupt("stopped: the same command without --again goes on")
    report.finish(COLUMNS, options.json)
    say(f"written to {path}" if report.rows else f"nothing new for {path}")
    if stopped:
        raise stopped
    wrong = [row for row in report.rows if row["wrong"]]
    if wrong:
        raise RuntimeError(f"tune: results of {len(wrong)} sizes differ from float64, see the column wrong")
    return report


def output_path(output: Path | None, gpu: str) -> Path:
    """Return the file to write: ``output``, or that of the GPU in the first folder that is looked in.

    Raises:
        PermissionError: its folder cannot be written; said before anything is measured.
    """
    path = output or folders()[0] / f"{gpu}.txt"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise PermissionError(f"tune: {path.parent} cannot be written: set PCPERC_SELECTION to a folder of yours")
    return path


def _measure(problem: TunedSize, selection: Selection) -> dict[str, Any] | None:
    """Time the candidates of one size and note the fastest that is right; None where there is but one."""
    candidates = problem.candidates()
    if len(candidates) == 1:
        return None
    glanced = _times(problem, candidates, _GLANCE)
    if problem.sizes.pass_name == "weight_grad":
        fastest = sorted((c for c in candidates if c[1] == 0), key=glanced.__getitem__)[:2]
        others = [(tile, blocks) for tile, _ in fastest for blocks in range(1, 5)]
        glanced |= _times(problem, [c for c in others if c not in glanced], _GLANCE)
    errors = {candidate: problem.error(candidate) for candidate in glanced}
    right = [candidate for candidate in glanced if errors[candidate] < problem.limit]
    near = [c for c in right if glanced[c] <= 1.1 * min(glanced[r] for r in right)]
    times = _times(problem, list(dict.fromkeys([problem.chosen, *near])), _LOOK)
    row = dict(zip(("pass", "dtype", "rows", "in", "out", "taps"), problem.sizes, strict=True))
    row |= {"case": problem.map.case, "candidates": len(glanced)}
    row |= {"now": _words(problem.chosen), "now_ms": times[problem.chosen]}
    row["wrong"] = " ".join(_words(candidate) for candidate in glanced if candidate not in right) or None
    if right:
        best = best_of({candidate: times[candidate] for candidate in right if candidate in times}, problem.chosen)
        best_ms = times[best]
        selection.choices[problem.sizes] = Choice(*best, best_ms)
        row |= {"best": _words(best), "best_ms": best_ms, "ratio": best_ms / row["now_ms"]}
        flop = 2 * int(problem.map.tap_pairs.sum()) * problem.sizes.in_channels * problem.sizes.out_channels
        row |= {"tflops": flop / best_ms / 1e9, "error": errors[best]}
    return row


def _times(problem: TunedSize, candidates: Sequence[Candidate], seconds: float) -> dict[Candidate, float]:
    return {candidate: graph_ms(partial(problem.run, candidate), seconds=seconds) for candidate in candidates}


def _words(candidate: Candidate) -> str:
    return "{} x{}".format(*candidate)


def _channels(options: TuneOptions, case: str) -> Sequence[tuple[int, int]]:
    if options.channels is not None:
        return options.channels
    pairs = (text.partition("-")[::2] for text in CHANNELS[case].split())
    return [(int(first), int(second or first)) for first, second in pairs]


def _problems(options: TuneOptions, sweep: Sweep, device: torch.device) -> Iterator[tuple[TunedSize, str]]:
    """All sizes, and what is said while each is measured."""
    for voxels in options.voxels:
        coords = (sweep if voxels is None else sweep.with_voxels(voxels)).coords.to(device)
        for case in options.cases:
            kernel_map = make_map(case, coords)
            layers = itertools.product(_channels(options, case), options.dtype, options.passes)
            for channels, dtype, pass_name in layers:
                torch.manual_seed(0)
                text = f"{case}, {len(coords)} voxels, {channels[0]} -> {channels[1]}, {dtype}, {pass_name}"
                yield TunedSize(kernel_map, pass_name, dtype, channels), text
