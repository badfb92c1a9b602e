# SPDX-License-Identifier: Apache-2.0
"""A network for inference as one CUDA graph, for any number of voxels below a capacity."""

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pcperc import ops
from pcperc.nn._checks import check_input
from pcperc.nn.cuda_graph import CudaGraph, number_settings, require_cuda, require_eval
from pcperc.ops._checks import positive_int
from pcperc.sparse import SparseTensor
from pcperc.sparse._checks import check_not_padded
from pcperc.sparse.kernel_map_cache import KernelMapCache
from pcperc.sparse.padding import PADDING, padded_tensor
from pcperc.sparse.topology import Topology


def capture(model: nn.Module, *, capacity: int, margin: float = 1.25) -> "CapturedNetwork":
    """Wrap a network so that its kernels are launched together, as a CUDA graph, at next to no cost for the CPU.

    The first call for a form of input (batch size, lattice, channels, dtype, autocast, and torch's switches as in
    :func:`capture_dense`) runs as usual, to learn how many voxels each step down leaves, and is then captured. Later
    ones copy the cloud into a buffer of ``capacity`` rows, the rest padding, and replay. Results are those of
    ``model``; where a cloud, or what a step down leaves of it, finds no room, ``model`` itself runs, with one warning.
    Calls are for one stream at a time: a call on another stream must wait for the last one's results, as it refills
    the buffer.

    Args:
        model: in eval mode, from a SparseTensor to a SparseTensor or a tensor without a row for each voxel (such as
            that of ``dense``). Its parameters may change in place, but must stay where they are. It may not make or
            choose voxels otherwise than by steps down (strided convolutions and pooling), nor read values on the CPU.
        capacity: voxels of the whole batch, at most.
        margin: room of the coarser levels: their share of the first cloud's voxels times this, of ``capacity``.
    Raises:
        TypeError, ValueError: an argument, or a model in training mode; of a call: an input on another device.
        RuntimeError: this machine has no CUDA device.
    """
    require_cuda("capture")
    return CapturedNetwork(model, capacity=capacity, margin=margin)


class CapturedNetwork(nn.Module):
    """What :func:`capture` returns."""

    def __init__(self, model: nn.Module, *, capacity: int, margin: float = 1.25):
        super().__init__()
        require_eval("capture", model)
        if not margin >= 1:
            raise ValueError(f"capture: margin must be >= 1, got {margin}")
        self.model, self.capacity, self.margin = model, positive_int("capture", "capacity", capacity), margin
        self._graphs: dict[tuple, _Graph] = {}
        self._has_warned = False
        self.eval()

    def forward(self, x: SparseTensor) -> SparseTensor | Tensor:
        check_input(self, x)
        check_not_padded("capture", x.topology)
        with (
            torch.inference_mode(False),
            torch.no_grad(),
        ):  # later calls write to its buffers, in any mode
            return self._run(x)

    def _run(self, x: SparseTensor) -> SparseTensor | Tensor:
        if len(x) == 0:
            return self.model(x)
        if len(x) > self.capacity:
            return self._run_without(x, f"{len(x)} voxels are more than its capacity of {self.capacity}")
        form = _form(x)
        if form not in self._graphs:
            fresh = SparseTensor.on_topology(x.topology, x.feats, KernelMapCache())
            out = self.model(fresh)
            capacities = self._capacities(len(x), fresh.kernel_maps.downsampled_rows)
            self._graphs[form] = _Graph(self.model, x, self.capacity, capacities)
            return out
        out = self._graphs[form].replay(x)
        if out is None:
            return self._run_without(x, "a coarser level has more voxels than it has room for; margin makes more")
        return out

    def _capacities(self, num_voxels: int, rows: list[int]) -> list[int]:
        """Room for each level: of the capacity what it has of the voxels now, and a margin."""
        return [max(math.ceil(self.capacity * self.margin * count / num_voxels), 1) for count in rows]

    def _run_without(self, x: SparseTensor, reason: str) -> SparseTensor | Tensor:
        if not self._has_warned:
            logging.getLogger(__name__).warning("capture: the network runs without its CUDA graph: %s", reason)
            self._has_warned = True
        return self.model(x)

    def train(self, mode: bool = True) -> "CapturedNetwork":
        if mode:
            raise ValueError("capture: a captured network is for inference, and cannot be put into training mode")
        return super().train(mode)


def _form(x: SparseTensor) -> tuple:
    """What a graph is made for."""
    lattice = x.dims, x.batch_size, x.spatial_shape, x.tensor_stride
    return *lattice, x.num_channels, x.dtype, x.device, number_settings()


@dataclass(frozen=True)
class PaddedPass:
    """The results of a network over padding, and what tells whether they are right."""

    out: SparseTensor | Tensor
    status: Tensor  # (2,) int64: whether voxels found no room, and the voxels of the output

    @classmethod
    def run(cls, model: nn.Module, x: SparseTensor) -> "PaddedPass":
        """Run the network on padded ``x``; nothing waits for a GPU."""
        out = model(x)
        incomplete = x.kernel_maps.incomplete
        overflow = torch.stack(incomplete).any() if incomplete else torch.zeros((), dtype=torch.bool, device=x.device)
        count = (out.coords[:, 0] != PADDING).sum() if isinstance(out, SparseTensor) else torch.zeros_like(overflow)
        return cls(out, torch.stack([overflow.long(), count.long()]))

    def result(self, x: SparseTensor, padded: SparseTensor) -> SparseTensor | Tensor | None:
        """The output for ``x``, without padding, copied; None where voxels found no room. Waits for the GPU."""
        overflow, count = self.status.tolist()
        if overflow:
            return None
        if isinstance(self.out, Tensor):
            return self.out.clone()
        feats, made = self.out.feats[:count].clone(), self.out.topology
        if made is padded.topology:
            return x.replace(feats=feats)
        coords = made.coords[:count].clone()
        topology = Topology(coords, made.batch_size, made.spatial_shape, made.tensor_stride, made_by_operator=True)
        return SparseTensor.on_topology(topology, feats, KernelMapCache())


class _Graph:
    """One form of input: its buffers and the captured pass over them."""

    def __init__(self, model: nn.Module, x: SparseTensor, capacity: int, capacities: list[int]):
        self._coords = x.coords.new_full((capacity, x.coords.shape[1]), PADDING)
        self._feats = x.feats.new_zeros(capacity, x.num_channels)
        self._lattice, self._capacities = x.topology, capacities
        self._fill(x)
        self._graph = CudaGraph("capture", lambda: self._run(model), x.device)

    def _run(self, model: nn.Module) -> tuple[SparseTensor, PaddedPass]:
        padded = padded_tensor(self._lattice, self._coords, self._feats, self._capacities)
        return padded, PaddedPass.run(model, padded)

    def replay(self, x: SparseTensor) -> SparseTensor | Tensor | None:
        self._fill(x)
        padded, done = self._graph.replay()
        return done.result(x, padded)

    def _fill(self, x: SparseTensor) -> None:
        ops.pad_rows(x.coords, x.feats, to_coords=self._coords, to_feats=self._feats)
