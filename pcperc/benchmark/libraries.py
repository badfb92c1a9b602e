# SPDX-License-Identifier: Apache-2.0
"""One face for the sparse-convolution libraries that are measured, with pcperc behind it; peers: peer_libraries.py."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

import pcperc
import pcperc.nn as spnn
from pcperc.engine.messages import one_line
from pcperc.sparse import KernelMapCache

Triple = tuple[int, int, int]


class NotOffered(Exception):
    """The library does not have it; the message says what."""


@dataclass(frozen=True)
class Layer:
    """A layer in words that every library understands.

    kind: "submanifold", "strided", "inverse" (of the strided one with the same name) or "max_pool".
    name: layers of one resolution, or a strided one and its inverse, share it; spconv finds kernel maps by it.
    """

    kind: str
    kernel_size: int
    stride: int = 1
    padding: int = 0
    in_channels: int = 0
    out_channels: int = 0
    groups: int = 1
    name: str = "layer"

    def with_channels(self, in_channels: int, out_channels: int) -> "Layer":
        return replace(self, in_channels=in_channels, out_channels=out_channels)

    @property
    def weight_shape(self) -> Triple:
        """(K, Cin / groups, Cout), the form in which :meth:`Library.set_weight` takes it."""
        return self.kernel_size**3, self.in_channels // self.groups, self.out_channels


class Library:
    """What is asked of a library. Tensors are (M, 4) ``[batch, x, y, z]`` coords >= 0 and (M, C) feats."""

    name: str
    trains_on_cpu = False
    cpu_dtypes: tuple[torch.dtype, ...] = ()

    def tensor(self, coords: Tensor, feats: Tensor):
        raise NotImplementedError

    def layer(self, layer: Layer) -> nn.Module:
        raise NotImplementedError

    def set_weight(self, module: nn.Module, weight: Tensor) -> None:
        raise NotImplementedError

    def taps(self, weight: Tensor) -> Tensor:
        """(K, Cin / groups, Cout) from a tensor in the form of the library's weight, as :meth:`set_weight` puts it."""
        raise NotImplementedError

    def kept_maps(self, kept: dict[str, object]) -> AbstractContextManager:
        """While it is entered, a layer takes the kernel map of its first call from ``kept``."""
        return nullcontext()  # as most libraries do by themselves, through the tensor

    def build_map(self, layer: Layer, coords: Tensor) -> object:
        """Build the kernel map of a layer alone: for a strided one the output coordinates too."""
        raise NotOffered("a kernel map is built inside its layer only")

    def check(self, device: torch.device, dtype: torch.dtype, *, training: bool) -> None:
        """Raise NotOffered for what the library cannot do at all."""
        if device.type == "cpu" and dtype not in self.cpu_dtypes:
            raise NotOffered(f"no {str(dtype).removeprefix('torch.')} on a CPU")
        if device.type == "cpu" and training and not self.trains_on_cpu:
            raise NotOffered("no backward on a CPU")

    @property
    def version(self) -> str:
        raise NotImplementedError


class Pcperc(Library):
    name = "pcperc"
    trains_on_cpu = True
    cpu_dtypes = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    version = pcperc.__version__

    def tensor(self, coords, feats):
        return pcperc.SparseTensor(coords, feats)

    def layer(self, layer):
        channels = layer.in_channels, layer.out_channels
        options = {"groups": layer.groups, "bias": False}
        if layer.kind == "submanifold":
            return spnn.SubMConv3d(*channels, layer.kernel_size, **options)
        if layer.kind == "strided":
            return spnn.SparseConv3d(*channels, layer.kernel_size, layer.stride, layer.padding, **options)
        if layer.kind == "inverse":
            return spnn.SparseInverseConv3d(*channels, layer.kernel_size, **options)
        return spnn.SparseMaxPool3d(layer.kernel_size, layer.stride, layer.padding)

    def build_map(self, layer, coords):
        geometry = {name: (getattr(layer, name),) * 3 for name in ("kernel_size", "stride", "padding")}
        geometry["dilation"] = (1, 1, 1)
        topology = self.tensor(coords, coords.new_empty((len(coords), 0), dtype=torch.float32)).topology
        if layer.kind == "submanifold":
            geometry["padding"] = (layer.kernel_size // 2,) * 3
            return KernelMapCache().between(topology, topology, **geometry).neighbors
        return KernelMapCache().downsampled(topology, **geometry).neighbors

    def set_weight(self, module, weight):
        module.weight.data.copy_(weight.view_as(module.weight))

    def taps(self, weight):
        return weight.flatten(0, 2)

    def feats(self, x):
        return x.feats

    def coords(self, x):
        return x.coords

    def with_feats(self, x, feats):
        return x.replace(feats=feats)


def refusal(library: Library, error: Exception) -> dict[str, str]:
    """What a peer could not do, as words of a row; pcperc's own errors are raised."""
    if isinstance(library, Pcperc) and not isinstance(error, NotOffered):
        raise error
    return {"library": library.name, "reason": one_line(error)}
