# SPDX-License-Identifier: Apache-2.0
"""A network for inference as one CUDA graph, for any number of voxels or points below a capacity."""

import logging
import math
from typing import Any

import torch
from torch import nn

from pcperc import ops
from pcperc.nn._checks import check_rows
from pcperc.nn.cuda_graph import CudaGraph, number_settings, require_cuda, require_eval
from pcperc.nn.norm import BatchNorm, RowBatchNorm
from pcperc.nn.padded_pass import PaddedPass, on_points
from pcperc.ops._checks import positive_int
from pcperc.sparse import PointTensor, SparseTensor
from pcperc.sparse._checks import check_not_padded
from pcperc.sparse.padding import PADDING, new_rows, padded_like, with_own_cache


def capture(model: nn.Module, *, capacity: int, margin: float = 1.25) -> "CapturedNetwork":
    """Wrap a network so that its kernels are launched together, as a CUDA graph, at next to no cost for the CPU.

    The first call for a form of input (batch size, lattice, channels, dtypes, autocast, and torch's switches as in
    :func:`capture_dense`) runs as usual, to learn how many voxels the points and each step down leave, and is then
    captured. Later ones copy the cloud into a buffer of ``capacity`` rows, the rest padding, and replay. Results are
    those of ``model``, copied; where a cloud, or what a step down leaves of it, finds no room, ``model`` itself runs,
    with one warning. Each form has memory of its own, for ``capacity`` rows, for as long as the wrapper lives. Calls
    are for one stream at a time: a call on another stream must wait for the last one's results, as it refills the
    buffer.

    Args:
        model: in eval mode. From a SparseTensor to a SparseTensor or a tensor without a row for each voxel (such as
            that of ``dense``); or from a PointTensor to PointTensors of the same points and tensors with a row for each
            of them, also in lists, tuples, dicts and dataclasses. Its parameters may change in place, but must stay
            where they are; nothing else about it may change. It may not make or choose voxels otherwise than from its
            points and by steps down (strided convolutions and pooling), nor read values on the CPU, nor reduce over all
            rows at once, where padding would count (over those of each batch item it may). Hooks of its modules are
            not called.
        capacity: voxels, or points, of the whole batch, at most.
        margin: room of the voxels of points and of coarser levels: their share of the rows of the first cloud times
            this, of ``capacity``.
    Raises:
        TypeError, ValueError: an argument, a model in training mode or with a batch norm that keeps no running
            statistics; of a call: an input on another device, or a model that gives something else.
        RuntimeError: this machine has no CUDA device.
    """
    require_cuda("capture")
    return CapturedNetwork(model, capacity=capacity, margin=margin)


class CapturedNetwork(nn.Module):
    """What :func:`capture` returns."""

    def __init__(self, model: nn.Module, *, capacity: int, margin: float = 1.25):
        super().__init__()
        require_eval("capture", model)
        _require_statistics(model)
        if not margin >= 1:
            raise ValueError(f"capture: margin must be >= 1, got {margin}")
        self.model, self.capacity, self.margin = model, positive_int("capture", "capacity", capacity), margin
        self._graphs: dict[tuple, _Graph] = {}
        self._has_warned = False
        self.eval()

    def forward(self, x: SparseTensor | PointTensor) -> Any:
        check_rows(self, x)
        if isinstance(x, SparseTensor):
            check_not_padded("capture", x.topology)
        with torch.inference_mode(False), torch.no_grad():  # later calls write to its buffers, in any mode
            return self._run(x)

    def _run(self, x: SparseTensor | PointTensor) -> Any:
        if len(x) == 0:
            return self.model(x)
        if len(x) > self.capacity:
            kind = "points" if isinstance(x, PointTensor) else "voxels"
            return self._run_without(x, f"{len(x)} {kind} are more than its capacity of {self.capacity}")
        form = _form(x)
        if form not in self._graphs:
            fresh = with_own_cache(x)
            out = self.model(fresh)
            self._graphs[form] = _Graph(self.model, x, self.capacity, self._capacities(fresh))
            return on_points(x, out) if isinstance(x, PointTensor) else out
        out = self._graphs[form].replay(x)
        if out is None:
            return self._run_without(x, "it makes more voxels than there is room for; a larger margin makes more")
        return out

    def _capacities(self, x: SparseTensor | PointTensor) -> list[int]:
        """Room for each new topology: of the capacity what it has of the rows now, and a margin."""
        rooms = [max(math.ceil(self.capacity * self.margin * count / len(x)), 1) for count in new_rows(x)]
        if isinstance(x, PointTensor):
            rooms[0] = min(rooms[0], self.capacity)  # a voxel for each point at most
        return rooms

    def _run_without(self, x: SparseTensor | PointTensor, reason: str) -> Any:
        if not self._has_warned:
            logging.getLogger(__name__).warning("capture: the network runs without its CUDA graph: %s", reason)
            self._has_warned = True
        return self.model(x)

    def train(self, mode: bool = True) -> "CapturedNetwork":
        if mode:
            raise ValueError("capture: a captured network is for inference, and cannot be put into training mode")
        return super().train(mode)


def _require_statistics(model: nn.Module) -> None:
    """Raise ValueError for a batch norm of rows that would take the statistics of padding, too."""
    for name, module in model.named_modules():
        if isinstance(module, BatchNorm | RowBatchNorm) and module.running_mean is None:
            raise ValueError(f"capture: batch norms must keep running statistics, got one without: {name or 'model'}")


def _form(x: SparseTensor | PointTensor) -> tuple:
    """What a graph is made for."""
    lattice = (x.spatial_shape, x.tensor_stride) if isinstance(x, SparseTensor) else ()
    numbers = x.num_channels, x.coords.dtype, x.dtype, x.device, number_settings()
    return type(x), x.dims, x.batch_size, *lattice, *numbers


class _Graph:
    """One form of input: its buffers and the captured pass over them."""

    def __init__(self, model: nn.Module, x: SparseTensor | PointTensor, capacity: int, capacities: list[int]):
        coords = x.coords.new_full((capacity, x.coords.shape[1]), PADDING)
        # Of the lattice of x, but without holding on to x.
        self._buffer = padded_like(x, coords, x.feats.new_zeros(capacity, x.num_channels), capacities)
        self._capacities = capacities
        self._fill(x)
        self._graph = CudaGraph("capture", lambda: self._run(model), x.device)

    def _run(self, model: nn.Module) -> tuple[SparseTensor | PointTensor, PaddedPass]:
        padded = padded_like(self._buffer, self._buffer.coords, self._buffer.feats, self._capacities)
        return padded, PaddedPass.run(model, padded)

    def replay(self, x: SparseTensor | PointTensor) -> Any:
        self._fill(x)
        padded, done = self._graph.replay()
        return done.result(x, padded)

    def _fill(self, x: SparseTensor | PointTensor) -> None:
        coords, feats = self._buffer.coords, self._buffer.feats
        if isinstance(x, SparseTensor):
            ops.pad_rows(x.coords, x.feats, to_coords=coords, to_feats=feats)
            return
        coords[: len(x)].copy_(x.coords)
        coords[len(x) :].fill_(PADDING)
        feats[: len(x)].copy_(x.feats)
