# SPDX-License-Identifier: Apache-2.0
"""The most memory that a call needs."""

from collections.abc import Callable
from pathlib import Path

import torch

from pcperc.engine.memory import return_freed_memory


def peak_memory(function: Callable[[], object], device: torch.device) -> float | None:
    """Return how much more memory than before one call needs at its peak, in MiB.

    On a GPU what torch's allocator hands out, on a CPU the resident memory of the process (Linux; None where the kernel
    does not let the mark be set back).
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return_freed_memory()
    before = _resident_mib("VmRSS")
    function()
    return _resident_mib("VmHWM") - before


def _resident_mib(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith(f"{name}:"))
