# SPDX-License-Identifier: Apache-2.0
"""A module of tensors for inference as CUDA graphs, one for each form of its inputs."""

import dataclasses
import functools
from collections.abc import Callable, Hashable
from types import UnionType
from typing import Any

import torch
from torch import Tensor, nn

from pcperc.nn.cuda_graph import CudaGraph, number_settings, require_cuda, require_eval
from pcperc.sparse import PointTensor, SparseTensor


def capture_dense(model: nn.Module) -> "CapturedModule":
    """Wrap a module of tensors so that its kernels are launched together, as a CUDA graph.

    The first call for a form of input (shapes, strides, dtypes, device, autocast, and torch's switches for precision,
    determinism, cudnn and attention) captures; it and later ones copy their inputs into the graph's buffers and replay.
    Results are those of ``model``, copied. Each form has memory of its own for as long as the wrapper lives. Calls are
    for one stream at a time: a call on another stream must wait for the last one's results, as it refills the buffers.
    Networks of sparse tensors are for :func:`pcperc.nn.capture`.

    Args:
        model: in eval mode; from tensors, and values that can be hashed and make another form, to tensors, also in
            lists, tuples, dicts and dataclasses. Its parameters may change in place, but must stay where they are. It
            may not read values on the CPU, copy from it, or make shapes that depend on values.
    Raises:
        TypeError: of a call: an input that is neither a tensor nor a value that can be hashed and has no tensor in it.
        ValueError: a model in training mode; of a call: inputs that are not on one CUDA device.
        RuntimeError: this machine has no CUDA device; of a call: the model does what it may not.
    """
    require_cuda("capture_dense")
    return CapturedModule(model)


class CapturedModule(nn.Module):
    """What :func:`capture_dense` returns."""

    def __init__(self, model: nn.Module):
        super().__init__()
        require_eval("capture_dense", model)
        self.model = model
        self._graphs: dict[tuple, _Graph] = {}

    def forward(self, *inputs: Tensor | Hashable) -> Any:
        device = _device(inputs)
        form = device, *map(_form, inputs), number_settings()
        with torch.inference_mode(False), torch.no_grad():  # later calls write to the graph's buffers, in any mode
            if form not in self._graphs:
                self._graphs[form] = _Graph(self.model, inputs, device)
            return self._graphs[form].replay(inputs)

    def train(self, mode: bool = True) -> "CapturedModule":
        if mode:
            raise ValueError("capture_dense: a captured module is for inference, and cannot be put into training mode")
        return super().train(mode)


class _Graph:
    """One form of input: its buffers and the captured pass over them."""

    def __init__(self, model: nn.Module, inputs: tuple, device: torch.device):
        self._inputs = [torch.empty_like(value) if isinstance(value, Tensor) else value for value in inputs]
        self._fill(inputs)
        self._graph = CudaGraph("capture_dense", lambda: model(*self._inputs), device)

    def replay(self, inputs: tuple) -> Any:
        self._fill(inputs)
        return map_tensors(Tensor.clone, self._graph.replay(), op="capture_dense")

    def _fill(self, inputs: tuple) -> None:
        for buffer, value in zip(self._inputs, inputs, strict=True):
            if isinstance(buffer, Tensor):
                buffer.copy_(value)


def map_tensors(function: Callable[[Any], Any], value: Any, *, op: str, leaves: type | UnionType = Tensor) -> Any:
    """Call the function for each tensor in lists, tuples, dicts and dataclasses; return the same of its results.

    Args:
        op: what the user called, for the message. leaves: what is a tensor here.
    Raises:
        TypeError: another type is among them.
    """
    of_part = functools.partial(map_tensors, function, op=op, leaves=leaves)
    if isinstance(value, leaves):
        return function(value)
    if isinstance(value, dict):
        return {key: of_part(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = map(of_part, value)
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return dataclasses.replace(value, **{name: of_part(getattr(value, name)) for name in names})
    raise TypeError(f"{op}: results must be tensors, also in containers, got {type(value).__name__}")


def _form(value: Tensor | Hashable) -> Hashable:
    """What a graph is made for, of one input."""
    return (value.shape, value.stride(), value.dtype) if isinstance(value, Tensor) else _exact(value)


def _exact(value: Hashable) -> Hashable:
    """The value with its types: 1, 1.0 and True are equal, as are 0.0 and -0.0, but each computes something else."""
    if isinstance(value, Tensor | SparseTensor | PointTensor) or not isinstance(value, Hashable):
        found = type(value).__name__
        raise TypeError(f"capture_dense: inputs must be tensors or hashable values without tensors, got a {found}")
    if isinstance(value, frozenset):
        return type(value), frozenset(map(_exact, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value), *(_exact(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, tuple):
        return type(value), *map(_exact, value)
    return type(value), repr(value) if isinstance(value, float | complex) else value


def _device(inputs: tuple) -> torch.device:
    """The one device of the inputs."""
    devices = {value.device for value in inputs if isinstance(value, Tensor)}
    if len(devices) != 1:
        found = sorted(map(str, devices)) or "no tensor"
        raise ValueError(f"capture_dense: inputs must be tensors of one device, got {found}")
    return devices.pop()
