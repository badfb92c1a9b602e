# SPDX-License-Identifier: Apache-2.0
"""One face for the sparse-convolution libraries that are measured: pcperc, and its peers where they are installed."""

import importlib
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

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


class Spconv(Library):
    """spconv 2; its weights are (Cout, *kernel, Cin). On a CPU the wheel has forward passes alone."""

    name = "spconv"
    module = "spconv.pytorch"
    cpu_dtypes = (torch.float32, torch.float16)

    def __init__(self):
        self.spconv = importlib.import_module(self.module)

    @property
    def version(self):
        return importlib.import_module(self.module.partition(".")[0]).__version__

    def tensor(self, coords, feats):
        batch_size, *shape = (int(value) + 1 for value in coords.max(0).values)
        shape = [math.ceil(size / 16) * 16 for size in shape]
        return self.spconv.SparseConvTensor(feats, coords, shape, batch_size)

    def layer(self, layer):
        if layer.groups != 1:
            raise NotOffered("no groups")
        channels = layer.in_channels, layer.out_channels
        options = {"bias": False, "indice_key": layer.name}
        if layer.kind == "submanifold":
            return self.spconv.SubMConv3d(*channels, layer.kernel_size, padding=layer.kernel_size // 2, **options)
        if layer.kind == "strided":
            return self.spconv.SparseConv3d(
                *channels, layer.kernel_size, stride=layer.stride, padding=layer.padding, **options
            )
        if layer.kind == "inverse":
            return self.spconv.SparseInverseConv3d(*channels, layer.kernel_size, **options)
        return self.spconv.SparseMaxPool3d(layer.kernel_size, layer.stride, layer.padding, indice_key=layer.name)

    def build_map(self, layer, coords):
        x = self.tensor(coords, coords.new_empty((len(coords), 0), dtype=torch.float32))
        is_submanifold = layer.kind == "submanifold"
        padding = layer.kernel_size // 2 if is_submanifold else layer.padding
        on_cpu = coords.device.type == "cpu"
        build = self.spconv.ops.get_indice_pairs if on_cpu else self.spconv.ops.get_indice_pairs_implicit_gemm
        algorithm = self.spconv.ConvAlgo.Native if on_cpu else self.spconv.ConvAlgo.MaskImplicitGemm
        sizes = ([value] * 3 for value in (layer.kernel_size, layer.stride, padding, 1, 0))
        return build(x.indices, x.batch_size, x.spatial_shape, algorithm, *sizes, subm=is_submanifold)

    def set_weight(self, module, weight):
        kernel = module.weight.shape[1:4]
        module.weight.data.copy_(weight.unflatten(0, kernel).permute(4, 0, 1, 2, 3))

    def taps(self, weight):
        return weight.permute(1, 2, 3, 4, 0).flatten(0, 2)

    @contextmanager
    def kept_maps(self, kept):
        """spconv's strided layers build their map in each call; these functions are what they build it by."""
        names = "get_indice_pairs", "get_indice_pairs_implicit_gemm"
        build = {name: getattr(self.spconv.ops, name) for name in names}

        def take(name: str, *arguments, **options):
            if name not in kept:
                kept[name] = build[name](*arguments, **options)
            return kept[name]

        try:
            for name in names:
                setattr(self.spconv.ops, name, partial(take, name))
            yield
        finally:
            for name, function in build.items():
                setattr(self.spconv.ops, name, function)

    def feats(self, x):
        return x.features

    def coords(self, x):
        return x.indices

    def with_feats(self, x, feats):
        return x.replace_feature(feats)


class SpconvTriton(Spconv):
    name = "spconv_triton"
    module = "spconv_triton.pytorch"
    cpu_dtypes = ()


class TorchSparse(Library):
    """torchsparse 2.1; its weights are (K, Cin, Cout), with x running fastest where the kernel volume is odd."""

    name = "torchsparse"

    def __init__(self):
        self.torchsparse = importlib.import_module("torchsparse")
        self.nn = importlib.import_module("torchsparse.nn")

    @property
    def version(self):
        return self.torchsparse.__version__

    def tensor(self, coords, feats):
        return self.torchsparse.SparseTensor(coords=coords, feats=feats)

    def layer(self, layer):
        if layer.groups != 1 or layer.kind == "max_pool":
            raise NotOffered("no groups, no max pooling")
        options = {"stride": 2, "transposed": True} if layer.kind == "inverse" else {"stride": layer.stride}
        return self.nn.Conv3d(layer.in_channels, layer.out_channels, layer.kernel_size, bias=False, **options)

    def set_weight(self, module, weight):
        size = round(weight.shape[0] ** (1 / 3))
        if size % 2:
            weight = weight.unflatten(0, (size,) * 3).permute(2, 1, 0, 3, 4).flatten(0, 2)
        module.kernel.data.copy_(weight.view_as(module.kernel))

    def taps(self, weight):
        size = round(weight.shape[0] ** (1 / 3))
        return weight.unflatten(0, (size,) * 3).permute(2, 1, 0, 3, 4).flatten(0, 2) if size % 2 else weight

    def feats(self, x):
        return x.feats

    def coords(self, x):
        return x.coords

    def with_feats(self, x, feats):
        other = self.torchsparse.SparseTensor(
            coords=x.coords, feats=feats, stride=x.stride, spatial_range=x.spatial_range
        )
        other._caches = x._caches
        return other


PEERS = {library.name: library for library in (Spconv, SpconvTriton, TorchSparse)}


def open_libraries(peers: Sequence[str]) -> tuple[list[Library], list[dict[str, str]]]:
    """pcperc and the named peers that can be imported, and why the others cannot.

    Raises:
        ValueError: an unknown name; the known ones are listed.
    """
    found: list[Library] = [Pcperc()]
    missing = []
    for name in peers:
        if name not in PEERS:
            raise ValueError(f"benchmark: peers must be of {', '.join(PEERS)}, got {name}")
        try:
            found.append(PEERS[name]())
        except Exception as error:  # a peer built for another torch or CUDA fails in ways of its own
            missing.append({"library": name, "reason": f"not importable: {one_line(error)}"})
    return found, missing


def refusal(library: Library, error: Exception) -> dict[str, str]:
    """What a peer could not do, as words of a row; pcperc's own errors are raised."""
    if isinstance(library, Pcperc) and not isinstance(error, NotOffered):
        raise error
    return {"library": library.name, "reason": one_line(error)}
