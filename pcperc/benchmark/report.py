# SPDX-License-Identifier: Apache-2.0
"""What a benchmark leaves: a table for the eye, JSON for later, and all that is needed to repeat it."""

import json
import platform
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from pcperc.benchmark.inputs import Sweep
from pcperc.benchmark.libraries import Library
from pcperc.benchmark.peak import measure_peak
from pcperc.engine.checkpoint import save_text
from pcperc.engine.memory import keep_freed_memory

LAYER_COLUMNS = {"layer": "", "kind": "", "parameters": ",d", "pairs": ",d", "macs": ",d"}


@dataclass
class Report:
    """One run of tools/benchmark.py. ``rows`` are flat: words and numbers by name (tools/README.md)."""

    kind: str  # "op", "model" or "hits"
    environment: dict[str, Any]
    input: dict[str, Any]
    peaks: dict[str, dict[str, float | None]] = field(default_factory=dict)  # by dtype
    rows: list[dict[str, Any]] = field(default_factory=list)
    not_measured: list[dict[str, Any]] = field(default_factory=list)  # library, reason and the words of a row
    layers: list[dict[str, Any]] = field(default_factory=list)  # of the model of a config, for one sample

    def compare_libraries(self, words: Sequence[str]) -> None:
        """Add ratios of medians to the rows that agree in ``words``.

        ``pcperc_ratio`` is the time of pcperc over that of a peer in the same type, ``kernel_ratio`` that of the
        kernels on a GPU, ``vs_first_dtype`` the time of a library over its own in the type that was named first.
        """

        def times(value: str) -> dict[tuple, float | None]:
            return {(row["library"], row["dtype"], *[row[w] for w in words]): row.get(value) for row in self.rows}

        found, kernels = times("median_ms"), times("kernel_ms")
        first = next(iter(self.peaks), None)
        for row in self.rows:
            library, dtype, same = row["library"], row["dtype"], tuple(row[w] for w in words)
            ours, in_first = found.get(("pcperc", dtype, *same)), found.get((library, first, *same))
            if library != "pcperc" and ours is not None:
                row["pcperc_ratio"] = ours / row["median_ms"]
                if row.get("kernel_ms"):
                    row["kernel_ratio"] = kernels[("pcperc", dtype, *same)] / row["kernel_ms"]
            if dtype != first and in_first is not None:
                row["vs_first_dtype"] = row["median_ms"] / in_first

    def finish(self, columns: dict[str, str], path: Path | None) -> None:
        """Print the report and, where asked for, write it as JSON."""
        self.show(columns)
        self.save(path)

    def save(self, path: Path | None) -> None:
        """Write the report as it is by now as JSON, where asked for."""
        if path is not None:
            save_text(json.dumps(asdict(self), indent=1), path)

    def show(self, columns: dict[str, str]) -> None:
        """Print the rows, the columns given as {name of a value: form of it}, and what could not be measured."""
        console = Console(highlight=False, soft_wrap=True)
        for title, facts in (("environment", self.environment), ("input", self.input)):
            console.print(f"{title}: " + ", ".join(f"{k} {v}" for k, v in facts.items()), markup=False)
        for dtype, peak in self.peaks.items():
            values = ", ".join(f"{name} {value:.4g}" for name, value in peak.items() if value is not None)
            console.print(f"measured on this machine, {dtype}: {values}", markup=False)
        wide = Console(width=max(console.width, 260))  # never cut
        if self.layers:
            wide.print(_table(self.layers, LAYER_COLUMNS))
        wide.print(_table(self.rows, columns))
        for (library, reason), count in Counter((e["library"], e["reason"]) for e in self.not_measured).items():
            console.print(f"not measured, {count} x {library}: {reason}", markup=False)


def _table(rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> Table:
    """The columns of which some row has a value."""
    shown = {name: form for name, form in columns.items() if any(row.get(name) is not None for row in rows)}
    table = Table(box=None, pad_edge=False)
    for name in shown:
        table.add_column(name, justify="left" if shown[name] == "" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*("" if row.get(name) is None else format(row[name], form) for name, form in shown.items()))
    return table


def start_report(
    kind: str, device: torch.device, libraries: Sequence[Library], sweep: Sweep, dtypes: Sequence[str]
) -> Report:
    """A report without rows: device, threads, versions, commit, input and what the machine can do at the most."""
    facts = environment(device) | {library.name: library.version for library in libraries}
    source = {"name": sweep.name, "voxel_size": sweep.voxel_size, "num_voxels": len(sweep.coords)}
    return Report(kind, facts, source, {dtype: measure_peak(dtype, device) for dtype in dtypes})


def environment(device: torch.device) -> dict[str, Any]:
    """Return device, threads, versions and commit; on a CPU, freed memory is kept from here on, for peers too."""
    facts: dict[str, Any] = {"device": _device_name(device)}
    if device.type == "cpu":
        facts |= {"threads": torch.get_num_threads(), "cpu_capability": torch.backends.cpu.get_cpu_capability()}
        facts |= {"keeps_freed_memory": keep_freed_memory()}
    facts |= {"commit": _commit(), "python": platform.python_version(), "torch": torch.__version__}
    return facts | {"numpy": np.__version__}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        for line in cpu_info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    """Short hash of the checkout that this file is in, with "+" where files differ from it; "none" elsewhere."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "none"
