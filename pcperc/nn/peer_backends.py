# SPDX-License-Identifier: Apache-2.0
"""A layer's result as another library computes it, for checks side by side. Slow: every call builds the peer's map.

The peer gets our voxels, moved to where it takes them, and our weight in its layout; its rows come back in our order.
"""

import importlib
import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pcperc import ops
from pcperc.sparse import KernelMap, Topology

BACKENDS = ("spconv", "torchsparse")
_KINDS = ("SubMConv", "SparseConv", "SparseConvTranspose", "SparseGenerativeConvTranspose", "SparseInverseConv")


@dataclass(frozen=True)
class _Call:
    """One layer on one input, in the peer's frame: indices from 0, and the size of the finer lattice."""

    op: str
    kind: str  # one of _KINDS
    kernel_map: KernelMap
    weight: Tensor  # ours, (*kernel_size, in, out)
    feats: Tensor  # (N, in)
    source_coords: Tensor  # (N, 1 + D)
    target_coords: Tensor  # (M, 1 + D)
    shape: list[int]  # of the source; of the target for an inverse layer

    @property
    def batch_size(self) -> int:
        return self.kernel_map.source.batch_size

    @property
    def is_single_tap(self) -> bool:
        return math.prod(self.kernel_map.kernel_size) == 1


def check_backend(op: str, backend: str | None, known: tuple[str, ...]) -> None:
    """Require None, for our own operators, or a peer that has such a layer; it is imported by the first call."""
    if backend is not None and backend not in known:
        raise ValueError(f"{op}: backend must be None or {' or '.join(map(repr, known))}, got {backend!r}")


def convolve(layer: nn.Module, feats: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolve along ``kernel_map`` with the library that ``layer.backend`` names.

    Args:
        layer: a submanifold or strided layer or an inverse one; for spconv also a transposed or generative one.
        feats: (N, in_channels) of the map's source, N >= 1.
        kernel_map: of the layer.
    Returns:
        (M, out_channels), a row for each voxel of the map's target. Differentiable where the peer is.
    Raises:
        ImportError: the library is not installed.
        ValueError: the library has no such layer, or makes other voxels.
    """
    op = type(layer).__name__
    check_backend(op, layer.backend, layer.backends)
    kind = next(c.__name__ for c in type(layer).__mro__ if c.__name__ in _KINDS)
    if layer.groups != 1:
        raise ValueError(f"{op}: backend {layer.backend!r} needs groups=1, got {layer.groups}")
    if not len(feats):
        raise ValueError(f"{op}: backend {layer.backend!r} needs at least one voxel, got none")
    is_generative = kind == "SparseGenerativeConvTranspose"
    frame = _frame(kernel_map, kind)
    kind = "SparseConvTranspose" if is_generative else kind  # the two differ in the size of a bounded lattice alone
    call = _Call(op, kind, kernel_map, layer.weight, feats, *frame)
    run = _spconv if layer.backend == "spconv" else _torchsparse
    coords, values = run(call)
    more = is_generative and kernel_map.target.spatial_shape is not None  # it was given a lattice without those bounds
    values = values.index_select(0, _match(op, layer.backend, coords, call.target_coords, more=more))
    return values if layer.bias is None else values + layer.bias


def _frame(kernel_map: KernelMap, kind: str) -> tuple[Tensor, Tensor, list[int]]:
    """Source and target coordinates from 0, and the size of the lattice that the peer is given.

    Bounded lattices stay as they are, but for generative layers, whose size no peer has. On others coarse indices move
    by whole cells and fine ones by ``stride`` times as many, which changes no connection, and the lattice is made to
    hold every voxel that the layer reaches.
    """
    source, target = kernel_map.source, kernel_map.target
    fine, coarse = (target, source) if kernel_map.transposed else (source, target)
    is_bounded = source.spatial_shape is not None and target.spatial_shape is not None
    if is_bounded and kind != "SparseGenerativeConvTranspose":
        shape = target.spatial_shape if kind == "SparseInverseConv" else source.spatial_shape
        return source.coords, target.coords, list(shape)
    as_tensor = fine.coords.new_tensor
    stride, padding = as_tensor(kernel_map.stride), as_tensor(kernel_map.padding)
    reach = as_tensor(kernel_map.dilation) * (as_tensor(kernel_map.kernel_size) - 1)
    # A transposed layer drops what falls below 0 or above its size, out of which spconv leaves the dilation: its input
    # keeps as many cells away from both.
    is_transposed = kind in ("SparseConvTranspose", "SparseGenerativeConvTranspose")
    lost = padding + reach - as_tensor(kernel_map.kernel_size) + 1
    room = (lost + stride - 1) // stride if is_transposed else torch.zeros_like(padding)
    shift = torch.maximum(-(fine.coords[:, 1:].amin(0) // stride), room - coarse.coords[:, 1:].amin(0))
    fine_coords, coarse_coords = _moved(fine, stride * shift), _moved(coarse, shift)
    coarse_shape = coarse_coords[:, 1:].amax(0) + room + 1
    fine_shape = torch.maximum(fine_coords[:, 1:].amax(0) + 1, stride * (coarse_shape - 1) + reach + 1 - 2 * padding)
    coords = (coarse_coords, fine_coords) if kernel_map.transposed else (fine_coords, coarse_coords)
    return *coords, (coarse_shape if is_transposed else fine_shape).tolist()


def _moved(topology: Topology, shift: Tensor) -> Tensor:
    return topology.coords + torch.cat([shift.new_zeros(1), shift])


def _match(op: str, backend: str, coords: Tensor, wanted: Tensor, *, more: bool = False) -> Tensor:
    """Row of ``coords`` for each row of ``wanted``; the two must be the same voxels, but for ``more`` in ``coords``."""
    rows = ops.build_kernel_map(coords.contiguous(), wanted.contiguous(), kernel_size=1)[0].long()
    if (len(coords) != len(wanted) and not more) or (rows < 0).any():
        raise ValueError(f"{op}: backend {backend!r} made other voxels: {len(coords)} where ours are {len(wanted)}")
    return rows


def _import(op: str, library: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{op}: backend {library!r} needs {library}, which is not installed ({error})") from error


def _spconv(call: _Call) -> tuple[Tensor, Tensor]:
    spconv, kernel_map = _import(call.op, "spconv", "spconv.pytorch"), call.kernel_map
    size = list(kernel_map.kernel_size)
    if call.kind == "SubMConv" and any(k % 2 == 0 for k in size):
        raise ValueError(f"{call.op}: backend 'spconv' needs an odd kernel_size, got {kernel_map.kernel_size}")
    dims = kernel_map.source.dims
    if not hasattr(spconv, f"{call.kind}{dims}d") or (call.kind == "SparseInverseConv" and call.is_single_tap):
        raise ValueError(f"{call.op}: backend 'spconv' has no such layer")
    steps = {"stride": list(kernel_map.stride), "padding": list(kernel_map.padding)}
    dilation = list(kernel_map.dilation)

    def tensor(coords: Tensor, feats: Tensor) -> Any:
        return spconv.SparseConvTensor(feats.contiguous(), coords.contiguous(), call.shape, call.batch_size)

    def apply(kind: str, weight: Tensor, x: Any, **options) -> Any:
        with torch.device("meta"):  # initial values, which are replaced, must not draw random numbers
            layer = getattr(spconv, f"{kind}{dims}d")(weight.shape[-1], len(weight), size, bias=False, **options)
        del layer.weight
        layer.weight = weight
        return layer(x)

    weight = call.weight.movedim(-1, 0).contiguous()
    if call.kind == "SparseInverseConv":
        taps = call.feats.new_zeros(1, *size, 1)
        there = tensor(call.target_coords, call.feats.new_zeros(len(call.target_coords), 1))
        there = apply("SparseConv", taps, there, **steps, dilation=dilation, indice_key="pairs")
        rows = _match(call.op, "spconv", call.source_coords, there.indices)
        there = there.replace_feature(call.feats.index_select(0, rows))
        out = apply("SparseInverseConv", weight, there, indice_key="pairs")
    else:
        if call.is_single_tap and (call.kind == "SubMConv" or math.prod(kernel_map.stride) == 1):
            weight = call.weight.reshape(weight.shape)  # spconv 2 reads the memory of such a weight as (in, out)
        if call.kind == "SubMConv":
            steps = {}
        out = apply(call.kind, weight, tensor(call.source_coords, call.feats), **steps, dilation=dilation)
    return out.indices, out.features


def _torchsparse(call: _Call) -> tuple[Tensor, Tensor]:
    """torchsparse 2.1, whose maps know no dilation; an inverse layer finds the map of the one before in the tensor."""
    torchsparse = _import(call.op, "torchsparse", "torchsparse")
    conv3d = _import(call.op, "torchsparse", "torchsparse.nn.functional").conv3d
    kernel_map = call.kernel_map
    if kernel_map.source.dims != 3 or any(d != 1 for d in kernel_map.dilation) or call.kind == "SparseConvTranspose":
        raise ValueError(f"{call.op}: backend 'torchsparse' has no such layer: it needs three axes and dilation 1")
    geometry = {"kernel_size": kernel_map.kernel_size, "stride": kernel_map.stride, "padding": kernel_map.padding}

    def tensor(coords: Tensor, feats: Tensor) -> Any:
        spatial_range = (call.batch_size, *call.shape)
        return torchsparse.SparseTensor(feats=feats, coords=coords.contiguous(), spatial_range=spatial_range)

    weight = call.weight
    if math.prod(kernel_map.kernel_size) % 2:  # the first axis is fastest there where the number of taps is odd
        weight = weight.permute(2, 1, 0, 3, 4)
    weight = weight.flatten(0, 2)
    if call.is_single_tap and math.prod(kernel_map.stride) == 1:
        weight = weight[0]
    if call.kind == "SparseInverseConv":
        there = tensor(call.target_coords, call.feats.new_zeros(len(call.target_coords), 1))
        there = conv3d(there, call.feats.new_zeros(math.prod(kernel_map.kernel_size), 1, 1), **geometry)
        there.feats = call.feats.index_select(0, _match(call.op, "torchsparse", call.source_coords, there.coords))
        out = conv3d(there, weight, **geometry, transposed=True)
    else:
        out = conv3d(tensor(call.source_coords, call.feats), weight, **geometry)
    return out.coords, out.feats
