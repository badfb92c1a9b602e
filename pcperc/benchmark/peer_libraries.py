# SPDX-License-Identifier: Apache-2.0
"""spconv and torchsparse behind the face of libraries.py, where they are installed."""

import importlib
import math
from collections.abc import Sequence
from contextlib import contextmanager
from functools import partial

import torch

from pcperc.benchmark.libraries import Library, NotOffered, Pcperc
from pcperc.engine.messages import one_line


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
