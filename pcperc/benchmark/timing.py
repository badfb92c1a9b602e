# SPDX-License-Identifier: Apache-2.0
"""Times of functions that take turns, so that what else the machine does falls on all of them."""

import time
from collections.abc import Callable, Hashable

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

WARM_UP = 2  # rounds that do not count
CALLS = 10  # of a function in one graph


def time_in_turns(
    functions: dict[Hashable, Callable[[], object]],
    *,
    device: torch.device,
    runs: int,
    on_run: Callable[[], None] = lambda: None,
) -> dict[Hashable, dict[str, float | int]]:
    """Call all functions one after the other, again and again.

    Args:
        functions: by any name, without arguments.
        device: a GPU is timed with events around the call, a CPU by the clock.
        runs: rounds that count, >= 1; `WARM_UP` rounds before them do not.
        on_run: called after each call, outside the times.
    Returns:
        For each function ``median_ms``, ``p5_ms``, ``p95_ms`` and ``runs``; on a GPU also ``kernel_ms``, the sum of the
        kernel and copy durations of a call without the gaps between, and ``launches``, their number.
    """
    times: dict[Hashable, list[float]] = {name: [] for name in functions}
    for turn in range(WARM_UP + runs):
        for name, function in functions.items():
            elapsed = call_ms(function, device)
            if turn >= WARM_UP:
                times[name].append(elapsed)
            on_run()
    found = {name: _summary(values) for name, values in times.items()}
    if device.type == "cuda":
        for name, function in functions.items():
            found[name] |= _kernel_times(function)
    return found


def call_ms(function: Callable[[], object], device: torch.device) -> float:
    """Return how long one call takes, in milliseconds; a GPU is timed with events around the call."""
    if device.type != "cuda":
        return _clock_ms(function)
    with torch.cuda.device(device):  # events are of the current one
        return _event_ms(function)


def graph_ms(function: Callable[[int], object], *, seconds: float) -> float:
    """Return how long a call takes on a GPU without the host's part, in milliseconds.

    It is the median over replays of a CUDA graph of ``function(0)`` to ``function(CALLS - 1)``, at least 5 of them and
    as many as fill ``seconds``.
    """
    function(0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for turn in range(CALLS):
            function(turn)
    times: list[float] = []
    while len(times) < 5 or (sum(times) < 1e3 * seconds and len(times) < 30):
        times.append(_event_ms(graph.replay))
    return float(np.median(times)) / CALLS


def with_tf32(enabled: bool, function: Callable[[], object]) -> object:
    """Call the function with torch's switch for float32 products on tensor cores set so."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = enabled
    try:
        return function()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _summary(times: list[float]) -> dict[str, float | int]:
    p5, median, p95 = (float(value) for value in np.percentile(times, (5, 50, 95)))
    return {"median_ms": median, "p5_ms": p5, "p95_ms": p95, "runs": len(times)}


def _kernel_times(function: Callable[[], object], *, runs: int = 5) -> dict[str, float | int]:
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as recorded:
        for _ in range(runs):
            function()
        torch.cuda.synchronize()
    events = [event for event in recorded.events() if event.device_type == DeviceType.CUDA]
    return {
        "kernel_ms": sum(event.device_time_total for event in events) / runs / 1e3,
        "launches": len(events) // runs,
    }


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
