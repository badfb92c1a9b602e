# SPDX-License-Identifier: Apache-2.0
"""How long a model looks for voxels and their neighbours."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Operators that see coordinates and tables alone.
MAP_OPERATORS = frozenset(
    "unique_coords downsample_coords downsample_with_map upsample_coords".split()
    + "build_kernel_map reverse_kernel_map order_rows".split()
)


def kernel_map_time(function: Callable[[], object], device: torch.device, *, runs: int = 3) -> float:
    """Return the time of the operators in `MAP_OPERATORS` in a call, in milliseconds, the median over ``runs`` calls.

    Each is waited for, so that on a GPU launches are in it, and nothing of it hides behind other work.
    """
    return float(np.median([_Stopwatch(device).time(function) for _ in range(runs)]))


class _Stopwatch(TorchDispatchMode):
    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.seconds = device, 0.0

    def time(self, function: Callable[[], object]) -> float:
        with self:
            function()
        return self.seconds * 1e3

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace != "pcperc" or func._opname not in MAP_OPERATORS:
            return func(*args, **(kwargs or {}))
        start = self._now()
        out = func(*args, **(kwargs or {}))
        self.seconds += self._now() - start
        return out

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
