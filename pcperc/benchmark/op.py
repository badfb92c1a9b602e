# SPDX-License-Identifier: Apache-2.0
"""tools/benchmark.py op: layers forward and backward and their kernel maps, beside those of other libraries."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from pcperc.benchmark.inputs import load_sweep
from pcperc.benchmark.layers import CASES, Prepared, make_work
from pcperc.benchmark.libraries import Layer, Library, refusal
from pcperc.benchmark.peak import torch_dtype
from pcperc.benchmark.peer_libraries import open_libraries
from pcperc.benchmark.report import Report, start_report
from pcperc.benchmark.timing import time_in_turns, with_tf32
from pcperc.engine.distributed import pick_device
from pcperc.engine.progress import ProgressDisplay

COLUMNS = {
    "case": "", "pass": "", "dtype": "", "channels": "d", "out_channels": "d", "num_voxels": ",d", "copies": "d",
    "library": "", "num_outputs": ",d", "pairs": ",d", "median_ms": ".3f", "p5_ms": ".3f", "p95_ms": ".3f",
    "kernel_ms": ".4f", "launches": "d", "pcperc_ratio": ".2f", "kernel_ratio": ".2f", "vs_first_dtype": ".2f",
    "gflops": ".1f", "peak_share": ".1%", "roofline_share": ".1%", "gbs": ".1f", "ns_per_pair": ".3f",
    "vs_fewest_copies": ".2f", "slope": ".2f", "error": ".1e",
}  # fmt: skip


@dataclass(frozen=True)
class OpOptions:
    """What the command line says; see tools/README.md."""

    cases: Sequence[str] = tuple(CASES)
    passes: Sequence[str] = ("forward", "forward_backward", "map")
    channels: Sequence[tuple[int, int]] = tuple((c, c) for c in (16, 32, 64, 128, 256))  # in, out
    voxels: Sequence[int | None] = (None,)
    copies: Sequence[int] = (1,)
    dtype: Sequence[str] = ("float32",)
    peers: Sequence[str] = ()
    input: Path | None = None
    voxel_size: float = 0.1
    runs: int = 10
    device: str | None = None
    json: Path | None = None


def measure_ops(options: OpOptions) -> Report:
    """Measure what the options ask for, print the table and, where asked for, write the JSON."""
    device = pick_device(options.device)
    libraries, missing = open_libraries(options.peers)
    sweep = load_sweep(options.input, options.voxel_size)
    report = start_report("op", device, libraries, sweep, options.dtype)
    report.not_measured += missing
    units = list(_units(options))
    with ProgressDisplay("measuring", len(units)) as display:
        for voxels, case, name, (channels, out_channels), copies in units:
            cut = sweep if voxels is None else sweep.with_voxels(voxels)
            where = {"case": case, "pass": name, "channels": channels, "out_channels": out_channels, "copies": copies}
            where["num_voxels"] = len(cut.coords)
            display.update(display.done, " ".join(f"{key}={value}" for key, value in where.items()))
            _measure(report, libraries, where, cut.copies(copies).to(device), options)
            display.advance()
    _compare_copies(report.rows)
    report.compare_libraries(("case", "pass", "channels", "out_channels", "num_voxels", "copies"))
    report.finish(COLUMNS, options.json)
    return report


def _units(options: OpOptions) -> Iterator[tuple[int | None, str, str, tuple[int, int], int]]:
    for voxels, case in itertools.product(options.voxels, options.cases):
        keeps_channels = "depthwise" in case or CASES[case].kind == "max_pool"
        # The kernel map of an inverse layer is that of the strided one before it.
        inverse = CASES[case].kind == "inverse"
        for name in (name for name in options.passes if not (inverse and "map" in name)):
            pairs = [(a, b) for a, b in options.channels if a == b or not keeps_channels]
            for channels in [(1, 1)] if name == "map" else pairs:  # a kernel map has no channels
                for copies in options.copies:
                    yield voxels, case, name, channels, copies


def _measure(
    report: Report, libraries: Sequence[Library], where: dict[str, Any], coords: Tensor, options: OpOptions
) -> None:
    """Time one pass in all libraries and types that have it, in turns; a row each, or why there is none."""
    name, device = where["pass"], coords.device
    prepared, functions = {}, {}
    for dtype in options.dtype[:1] if name == "map" else options.dtype:
        channels = where["channels"], where["out_channels"]
        work, counts = make_work(where["case"], coords, *channels, torch_dtype(dtype))
        for library in libraries:
            key = library.name, dtype
            try:
                library.check(device, work.feats.dtype, training=name == "forward_backward")
                prepared[key] = with_tf32(dtype == "tf32", partial(Prepared, library, work))
                function = partial(with_tf32, dtype == "tf32", getattr(prepared[key], name))
                function()  # some refuse only when called
                functions[key] = function
            except Exception as error:
                report.not_measured.append(where | {"dtype": dtype} | refusal(library, error))
    times = time_in_turns(functions, device=device, runs=options.runs)
    for key in functions:
        row = where | {"library": key[0], "dtype": key[1]} | counts | times[key]
        if name != "map":
            row["error"] = with_tf32(key[1] == "tf32", partial(prepared[key].error, name))
        report.rows.append(row | _rates(work.layer, row, report.peaks[key[1]]))


def _rates(layer: Layer, row: dict[str, Any], peak: dict[str, float | None]) -> dict[str, Any]:
    """Work, traffic and rates of a row, of its kernel times on a GPU.

    ``bytes`` is what must move at least: every tensor and table once. ``roofline_share`` is the time that the machine's
    best products or copies, whichever are slower, would need for the same, over the time that it took.
    """
    name, seconds, pairs = row["pass"], row.get("kernel_ms", row["median_ms"]) / 1e3, row["pairs"]
    steps = {"map": 0, "forward_backward": 3}.get(name, 1)  # forward, gradient of the features, of the weights
    volume, fan_in, out_channels = layer.weight_shape
    rates: dict[str, Any] = {"ns_per_pair": seconds / max(pairs, 1) * 1e9}
    table = 4 * layer.kernel_size**3 * row["num_outputs"]
    values = row["num_inputs"] * layer.in_channels + row["num_outputs"] * out_channels
    if layer.kind != "max_pool":
        values += volume * fan_in * out_channels
        if steps:
            rates["flop"] = 2 * pairs * fan_in * out_channels * steps
            rates["gflops"] = rates["flop"] / seconds / 1e9
            rates["peak_share"] = rates["gflops"] / peak["peak_gflops"]
    rates["bytes"] = steps * (values * torch_dtype(row["dtype"]).itemsize + table)
    if name in ("map", "forward_with_map"):
        rates["bytes"] += 16 * (row["num_inputs"] + row["num_outputs"]) + table
    least = max(rates["bytes"] / peak["copy_gbs"], rates.get("flop", 0) / peak["peak_gflops"]) / 1e9
    return rates | {"gbs": rates["bytes"] / seconds / 1e9, "roofline_share": least / seconds}


def _compare_copies(rows: list[dict[str, Any]]) -> None:
    """Add the time per pair relative to that with the fewest copies, and the slope of time against voxels."""
    words = "case", "pass", "channels", "out_channels", "library", "dtype"
    first: dict[tuple, dict] = {}
    for row in sorted(rows, key=lambda row: row["copies"]):
        fewest = first.setdefault(tuple(row[k] for k in ("num_voxels", *words)), row)
        if fewest is not row:
            row["vs_fewest_copies"] = row["ns_per_pair"] / fewest["ns_per_pair"]
    smaller: dict[tuple, dict] = {}
    for row in sorted(rows, key=lambda row: row["num_voxels"]):
        before = smaller.get(key := tuple(row[k] for k in ("copies", *words)))
        if before is not None:
            longer = math.log(row["median_ms"] / before["median_ms"])
            row["slope"] = longer / math.log(row["num_voxels"] / before["num_voxels"])
        smaller[key] = row
