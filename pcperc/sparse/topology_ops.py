# SPDX-License-Identifier: Apache-2.0
"""Functions of sparse tensors that join them, or choose among their voxels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcperc import ops
from pcperc.ops._checks import check_same_device, check_tensor, describe, sum_dtype, to_tuple
from pcperc.sparse._checks import check_batch_size, check_same_features, check_same_lattice, check_same_voxels
from pcperc.sparse.kernel_map_cache import KernelMapCache
from pcperc.sparse.sparse_tensor import SparseTensor
from pcperc.sparse.topology import Topology

_LOWEST = -(2**31)


def cat(tensors: Sequence[SparseTensor]) -> SparseTensor:
    """Put the channels of tensors with the same voxels side by side, as a U-Net does with its skip connections.

    Args:
        tensors: at least one; the same voxels in the same order (compared, a wait for the GPU, where they do not share
            a topology). dtypes are promoted as by torch.cat.
    Returns:
        SparseTensor with the sum of the channels, on the voxels and kernel maps of the first. Differentiable.
    Raises:
        TypeError: not sparse tensors.
        ValueError: none given, or their voxels differ; the message says how.
    """
    first = _check_tensors("cat", tensors)
    for tensor in tensors[1:]:
        advice = "pcperc.union brings tensors to the same voxels"
        check_same_voxels("cat", first.topology, tensor.topology, advice=advice)
    return first.replace(feats=torch.cat([tensor.feats for tensor in tensors], 1))


def collate(tensors: Sequence[SparseTensor]) -> SparseTensor:
    """Put the clouds of several tensors into one batch, in their order. Undoes ``unbind``.

    Args:
        tensors: at least one, of any batch_size, on one lattice, with equal channels and dtype. Rows keep their order.
    Returns:
        SparseTensor with the sum of the batch sizes and kernel maps of its own. Differentiable.
    Raises:
        TypeError: not sparse tensors.
        ValueError: none given; axes, spatial_shape, tensor_stride, channels, dtype or device differ; more clouds than
            a batch may have.
    """
    first = _check_tensors("collate", tensors)
    for tensor in tensors[1:]:
        check_same_lattice("collate", first.topology, tensor.topology, batch_size=False)
    check_same_features("collate", tensors)
    rows, batch_size = [], 0
    for tensor in tensors:
        old = tensor.coords[:, :1]
        new = torch.where(old < 0, old, old + batch_size) if tensor.topology.is_padded else old + batch_size
        rows.append(torch.cat([new, tensor.coords[:, 1:]], 1))
        batch_size += tensor.batch_size
    check_batch_size("collate", batch_size, first.dims)
    lattice = (batch_size, first.spatial_shape, first.tensor_stride)
    is_distinct = all(tensor.topology.is_distinct for tensor in tensors)
    is_padded = any(tensor.topology.is_padded for tensor in tensors)
    topology = Topology(torch.cat(rows), *lattice, made_by_operator=is_distinct, is_padded=is_padded)
    return SparseTensor.on_topology(topology, torch.cat([tensor.feats for tensor in tensors]), KernelMapCache())


def union(tensors: Sequence[SparseTensor]) -> SparseTensor:
    """Sum tensors over the voxels of all of them; a voxel that a tensor does not have counts as zero there.

    Args:
        tensors: at least one, on one lattice, with equal batch_size, channels and dtype, each of distinct rows.
    Returns:
        SparseTensor with rows sorted by key and without padding, or in their own order where all tensors share one
        topology. A convolution with kernel_size 1 is recorded from each tensor's voxels to the new ones.
        Differentiable.
    Raises:
        TypeError: not sparse tensors.
        ValueError: none given; lattice, batch_size, channels, dtype or device differ; a tensor has a row twice.
    Deterministic: yes, forward and backward; features are added in the order of the tensors, in float32 or better.
    """
    first = _check_tensors("union", tensors)
    for tensor in tensors[1:]:
        check_same_lattice("union", first.topology, tensor.topology)
    check_same_features("union", tensors)
    if all(tensor.topology is first.topology for tensor in tensors):
        sums = sum(tensor.feats.to(sum_dtype(first.dtype)) for tensor in tensors)
        return first.replace(feats=sums.to(first.dtype))
    coords, rows, _ = ops.unique_coords(torch.cat([tensor.coords for tensor in tensors]))  # padding becomes no row
    target = _like(first.topology, coords)
    for tensor in tensors:
        _identity_map(first.kernel_maps, tensor.topology, target)
    # A pooling with a tap for each tensor: row n of all of them goes, under its tensor's tap, to rows[n].
    reverse = rows.new_full((len(tensors), len(rows)), -1, dtype=torch.int32)
    start = 0
    for tap, tensor in zip(reverse, tensors, strict=True):
        end = start + len(tensor)
        tap[start:end] = rows[start:end]
        start = end
    try:
        neighbors = ops.reverse_kernel_map(reverse, num_inputs=coords.shape[0])
    except ValueError as error:
        raise ValueError(f"union: each tensor must have distinct rows, got one twice ({error})") from error
    feats = ops.sparse_pool(torch.cat([tensor.feats for tensor in tensors]), neighbors, reverse, mode="sum")
    return SparseTensor.on_topology(target, feats, first.kernel_maps)


def prune(x: SparseTensor, mask: Tensor) -> SparseTensor:
    """Keep the voxels where ``mask`` is true, in their order.

    Args:
        x: M voxels.
        mask: (M,) bool on the device of ``x``; padding stays padding where it is true.
    Returns:
        SparseTensor on new voxels of the same lattice, which may be none. A convolution with kernel_size 1 is
        recorded from the old voxels to them, so that ``SparseInverseConv3d(..., kernel_size=1)`` leads back.
        Differentiable. Waits for the GPU, which counts the voxels.
    Raises:
        TypeError, ValueError: x is no sparse tensor; wrong type, shape, dtype or device of ``mask``; repeated coords.
    """
    _check_tensors("prune", [x])
    check_tensor("prune", "mask", mask)
    if mask.shape != (len(x),) or mask.dtype != torch.bool:
        raise ValueError(f"prune: mask must be ({len(x)},) bool, got {describe(mask)}")
    check_same_device("prune", x=x.feats, mask=mask)
    x.topology.require_distinct("prune")
    rows = mask.nonzero().squeeze(1)
    target = _like(x.topology, x.coords[rows], is_padded=x.topology.is_padded)
    _identity_map(x.kernel_maps, x.topology, target)
    return SparseTensor.on_topology(target, x.feats.index_select(0, rows), x.kernel_maps)


def crop(
    x: SparseTensor, lower: int | Sequence[int] | None = None, upper: int | Sequence[int] | None = None
) -> SparseTensor:
    """Keep the voxels of a box, ``lower <= [x, y, z] < upper``, in their order and with their coordinates.

    Args:
        x: sparse tensor.
        lower, upper: whole numbers, one for all axes or one for each, in cells; None leaves that side open.
    Returns:
        As :func:`prune`; ``spatial_shape`` is that of ``x``.
    Raises:
        TypeError, ValueError: x is no sparse tensor, or a bound of another form.
    """
    _check_tensors("crop", [x])
    mask = torch.ones(len(x), dtype=torch.bool, device=x.device)
    if lower is not None:
        mask &= (x.coords[:, 1:] >= _bound(x, "lower", lower)).all(1)
    if upper is not None:
        mask &= (x.coords[:, 1:] < _bound(x, "upper", upper)).all(1)
    return prune(x, mask)


def _bound(x: SparseTensor, name: str, value: int | Sequence[int]) -> Tensor:
    return torch.tensor(to_tuple("crop", name, value, x.dims, low=_LOWEST), device=x.device)


def _identity_map(kernel_maps: KernelMapCache, source: Topology, target: Topology):
    """The map that connects equal coordinates. Its tables are built when first asked for."""
    ones, zeros = (1,) * source.dims, (0,) * source.dims
    return kernel_maps.between(source, target, kernel_size=ones, stride=ones, padding=zeros, dilation=ones)


def _like(topology: Topology, coords: Tensor, *, is_padded: bool = False) -> Topology:
    """Distinct voxels on the lattice of ``topology``."""
    lattice = (topology.batch_size, topology.spatial_shape, topology.tensor_stride)
    return Topology(coords, *lattice, made_by_operator=True, is_padded=is_padded)


def _check_tensors(op: str, tensors: Sequence[SparseTensor]) -> SparseTensor:
    """Require at least one sparse tensor; return the first."""
    if not isinstance(tensors, Sequence):
        raise TypeError(f"{op}: tensors must be a list or tuple of SparseTensors, got {type(tensors).__name__}")
    for tensor in tensors:
        if not isinstance(tensor, SparseTensor):
            raise TypeError(f"{op}: argument must be a SparseTensor, got {type(tensor).__name__}")
    if not tensors:
        raise ValueError(f"{op}: at least one SparseTensor must be given, got none")
    return tensors[0]
