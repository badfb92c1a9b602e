# SPDX-License-Identifier: Apache-2.0
"""Times of functions that take turns, so that what else the machine does falls on all of them."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile


def time_in_turns(
    functions: dict[str, Callable[[], object]],
    *,
    device: torch.device,
    runs: int,
    warm_up: int,
    on_run: Callable[[], None] = lambda: None,
) -> dict[str, np.ndarray]:
    """Call all functions one after the other, again and again.

    Args:
        functions: by name, without arguments.
        device: a GPU is timed with events around the call, a CPU by the clock.
        runs, warm_up: rounds that count (>= 1), and rounds before them that do not.
        on_run: called after each call, outside the times.
    Returns:
        (runs,) milliseconds of each function, in the order they were measured.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    measure = _event_ms if device.type == "cuda" else _clock_ms
    for turn in range(warm_up + runs):
        for name, function in functions.items():
            elapsed = measure(function)
            if turn >= warm_up:
                times[name].append(elapsed)
            on_run()
    return {name: np.array(values) for name, values in times.items()}


def summary(times: np.ndarray) -> dict[str, float | int]:
    """Median, 5th and 95th percentile of milliseconds, and how many they are of."""
    p5, median, p95 = np.percentile(times, (5, 50, 95))
    return {"median_ms": float(median), "p5_ms": float(p5), "p95_ms": float(p95), "runs": len(times)}


def gpu_time(function: Callable[[], object], *, runs: int = 5) -> tuple[float, int]:
    """Sum of the kernel and copy durations of one call in milliseconds, without the gaps between, and their number."""
    function()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        for _ in range(runs):
            function()
        torch.cuda.synchronize()
    events = [event for event in recorded.events() if event.device_type == DeviceType.CUDA]
    return sum(event.device_time_total for event in events) / runs / 1e3, len(events) // runs


def _clock_ms(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1e3


def _event_ms(function: Callable[[], object]) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    function()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)
