# SPDX-License-Identifier: Apache-2.0
"""What a benchmark leaves: a table for the eye, JSON for later, and all that is needed to repeat it."""

import json
import platform
import subprocess
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import pcperc
from pcperc.engine.checkpoint import save_text


@dataclass
class Report:
    """One run of tools/benchmark.py. ``rows`` are flat: words and numbers by name (tools/README.md)."""

    kind: str  # "op" or "model"
    environment: dict[str, Any]
    input: dict[str, Any]
    peaks: dict[str, dict[str, float | None]] = field(default_factory=dict)  # by dtype
    rows: list[dict[str, Any]] = field(default_factory=list)
    not_measured: list[dict[str, Any]] = field(default_factory=list)  # library, reason and the words of a row

    def save(self, path: Path) -> None:
        """Write the report as JSON."""
        save_text(json.dumps(asdict(self), indent=1), path)

    def show(self, columns: dict[str, str]) -> None:
        """Print the rows, the columns given as {name of a value: form of it}, and what could not be measured."""
        console = Console(highlight=False, soft_wrap=True)
        for title, facts in (("environment", self.environment), ("input", self.input)):
            console.print(f"{title}: " + ", ".join(f"{k} {v}" for k, v in facts.items()), markup=False)
        for dtype, peak in self.peaks.items():
            values = ", ".join(f"{name} {value:.4g}" for name, value in peak.items() if value is not None)
            console.print(f"measured on this machine, {dtype}: {values}", markup=False)
        shown = {name: form for name, form in columns.items() if any(row.get(name) is not None for row in self.rows)}
        table = Table(box=None, pad_edge=False)
        for name in shown:
            table.add_column(name, justify="left" if shown[name] == "" else "right", no_wrap=True)
        for row in self.rows:
            table.add_row(*("" if row.get(name) is None else format(row[name], form) for name, form in shown.items()))
        Console(width=max(console.width, 200)).print(table)
        for (library, reason), count in Counter((e["library"], e["reason"]) for e in self.not_measured).items():
            console.print(f"not measured, {count} x {library}: {reason}", markup=False)


def describe_environment(device: torch.device, versions: dict[str, str]) -> dict[str, Any]:
    """Device, threads, versions and commit; ``versions`` adds those of the peers."""
    found: dict[str, Any] = {"device": _device_name(device)}
    if device.type == "cpu":
        found |= {"threads": torch.get_num_threads(), "cpu_capability": torch.backends.cpu.get_cpu_capability()}
    found |= {"commit": _commit(), "pcperc": pcperc.__version__, "python": platform.python_version()}
    found |= {"torch": torch.__version__, "numpy": np.__version__} | versions
    return found


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
