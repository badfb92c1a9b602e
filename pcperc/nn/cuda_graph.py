# SPDX-License-Identifier: Apache-2.0
"""Work that is captured once as a CUDA graph and launched as a whole from then on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class CudaGraph:
    """The kernels of a function without arguments: it reads and writes the same memory each time.

    Args:
        op: what the user called, for messages.
        function: may not look at values on the CPU, nor copy between CPU and GPU.
        device: where its kernels run.
    Raises:
        RuntimeError: it did.
        ValueError: another kind of device.
    """

    def __init__(self, op: str, function: Callable[[], Any], device: torch.device):
        _require_on_cuda(op, device)
        stream = torch.cuda.Stream(device)  # libraries that a graph must not start are started here
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream), _no_autocast_cache():
            function()
        torch.cuda.current_stream(device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # On that stream, which is one of this device: torch's own would be one of the device that is current.
        captured = torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local")
        try:
            with captured, _no_autocast_cache():
                self._result = function()
        except RuntimeError as error:
            raise RuntimeError(f"CudaGraph: this work cannot be captured: {error}") from error

    def replay(self) -> Any:
        """Launch it; what the function returned, in memory that the next replay overwrites."""
        self._graph.replay()
        return self._result


class SideStream:
    """Starts work that runs beside what the current stream is given next; ``op`` is what the user called."""

    def __init__(self, op: str):
        self._op = op
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def start(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], Tensor]:
        """Launch ``function(x)`` behind what the current stream of x's device has been given so far.

        Returns:
            Function that lets the current stream wait for the result, and returns it. Nothing waits before.
        Raises:
            ValueError: x is on another kind of device.
        """
        _require_on_cuda(self._op, x.device)
        if x.device not in self._streams:
            self._streams[x.device] = torch.cuda.Stream(x.device)
        side, current = self._streams[x.device], torch.cuda.current_stream(x.device)
        side.wait_stream(current)
        x.record_stream(side)
        with torch.cuda.stream(side):
            result = function(x)

        def join() -> Tensor:
            current.wait_stream(side)
            result.record_stream(current)
            return result

        return join


def number_settings() -> tuple:
    """What else than its inputs a graph's arithmetic depends on: autocast and torch's switches that choose kernels."""
    autocast = torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda")
    cuda, matmul, cudnn = torch.backends.cuda, torch.backends.cuda.matmul, torch.backends.cudnn
    precision = matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    sums = matmul.allow_fp16_reduced_precision_reduction, matmul.allow_bf16_reduced_precision_reduction
    sums += matmul.allow_fp16_accumulation, cuda.fp16_bf16_reduction_math_sdp_allowed()
    attention = cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled()
    attention += (cuda.math_sdp_enabled(),)
    deterministic = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic
    return autocast, *precision, *sums, *attention, *deterministic, cudnn.enabled


def require_cuda(op: str) -> None:
    """Raise RuntimeError where there is no GPU."""
    if not torch.cuda.is_available():
        raise RuntimeError(f"{op}: a CUDA graph needs a CUDA device, and torch sees none")


def require_eval(op: str, model: nn.Module) -> None:
    """Raise ValueError for a model that trains."""
    if any(module.training for module in model.modules()):
        raise ValueError(f"{op}: model must be in eval mode (model.eval()), got one in training mode")


def _require_on_cuda(op: str, device: torch.device) -> None:
    if device.type != "cuda":
        raise ValueError(f"{op}: inputs must be on a CUDA device, got {device}")


def _no_autocast_cache() -> torch.autocast:
    """Autocast as it is, but without weights that it keeps: their memory would not be the graph's own."""
    enabled, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    return torch.autocast("cuda", dtype, enabled=enabled, cache_enabled=False)
