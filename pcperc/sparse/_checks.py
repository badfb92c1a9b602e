# SPDX-License-Identifier: Apache-2.0
"""Whether coordinates are in their lattice, features fit them and sparse tensors each other; if not, what is wrong."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcperc import ops
from pcperc.ops._checks import FLOAT_DTYPES, check_same_device, check_tensor, describe, plain
from pcperc.sparse.topology import Topology


def check_batch_size(op: str, batch_size: int, dims: int, *, is_read: bool = False) -> None:
    """Require a number of clouds that the keys of coordinates can hold; ``is_read``: it was read from coords."""
    largest = 1023 if dims <= 3 else 255
    if batch_size > largest:
        source = f" from the first column of coords, which is {_columns(dims)}{_HOW_TO_ADD}" if is_read else ""
        raise ValueError(
            f"{op}: batch_size must be in [1, {largest}] for {dims} spatial axes, got {batch_size}{source}"
        )


def batch_advice(coords: Tensor, row: int, batch_size: int | None) -> str:
    """Say how coords get a batch column, to end the message on a row; nothing where the row's batch index is fine."""
    dims = coords.shape[1] - 1
    count = batch_size or (1023 if dims <= 3 else 255)
    index = float(coords[row, 0])
    if index.is_integer() and 0 <= index < count:
        return ""
    last = coords[:, -1]
    is_last = dims == 3 and bool(((last >= 0) & (last < count) & (last == last.floor())).all())
    order = "; where it is the last one, torch.roll(coords, 1, 1)" if is_last else ""  # as torchsparse 1.4 has it
    return f"; coords are {_columns(dims)}{_HOW_TO_ADD}{order}"


def check_feats(op: str, coords: Tensor, feats: Tensor) -> None:
    """Require (M, C) floating point features of as many rows as coords, on their device."""
    rows = coords.shape[0]
    if (  # in one expression: a network asks it of every layer
        isinstance(feats, Tensor)
        and feats.ndim == 2
        and feats.shape[0] == rows
        and feats.dtype in FLOAT_DTYPES
        and feats.device == coords.device
    ):
        return
    check_tensor(op, "feats", feats)
    check_same_device(op, coords=coords, feats=feats)
    raise ValueError(f"{op}: feats must be ({rows}, C) floating point, got {describe(feats)}")


def check_habits(coords: Tensor, feats: object, **per_axis: object) -> None:
    """Say of arguments that were refused where they are as for another library: swapped, or without a batch column.

    Raises:
        ValueError: features first, or a list with a number for each column of coords: one of the two counts the batch
            among the axes.
    """
    if coords.is_floating_point() and isinstance(feats, Tensor) and not feats.is_floating_point():
        got = f"coords {describe(coords)} and feats {describe(feats)}, which look swapped"
        raise ValueError(f"SparseTensor: coords must be the first argument and feats the second, got {got}") from None
    columns = coords.shape[-1] if coords.ndim else 0
    for name, value in per_axis.items():
        value = plain(value)
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == columns:
            raise ValueError(
                f"SparseTensor: {name} must be one number or {columns - 1}, one for each axis behind the batch column "
                f"of coords, got {value!r}; {columns} axes need coords (M, {columns + 1}) {_columns(columns)}"
                f"{_HOW_TO_ADD}"
            ) from None


def check_bounds(
    coords: Tensor, batch_size: int, spatial_shape: tuple[int, ...] | None, extent: ops.CoordsExtent | None
) -> None:
    """Raise for the first row outside the batch or the bounded lattice; ``extent`` is None where nobody looked."""
    sizes = [min(size, 2**31 - 1) for size in spatial_shape or ()]  # what an index can reach

    def outside() -> Tensor:
        found = (coords[:, 0] < 0) | (coords[:, 0] >= batch_size)
        if sizes:
            limits = torch.tensor(sizes, dtype=coords.dtype).to(coords.device, non_blocking=True)
            found |= ((coords[:, 1:] < 0) | (coords[:, 1:] >= limits)).any(1)
        return found

    if torch.compiler.is_compiling():  # the graph keeps the check; to name the row, tracing would have to stop
        where = f"batch_size {batch_size}, spatial_shape {spatial_shape}"
        torch._assert_async(~outside().any(), f"SparseTensor: coords must be inside {where}")
    elif extent is not None and not _is_inside(extent, [batch_size, *sizes]):
        row = int(outside().int().argmax())
        raise ValueError(
            f"SparseTensor: coords row {row} = {coords[row].tolist()} is outside batch_size {batch_size}, "
            f"spatial_shape {spatial_shape}{batch_advice(coords, row, batch_size)}"
        )


def check_not_padded(op: str, topology: Topology) -> None:
    """Require voxels alone, for what would take a row of padding for one."""
    if topology.is_padded:
        raise ValueError(f"{op}: the sparse tensor must have no padding, got a padded one; x[:] leaves padding out")


def check_same_voxels(op: str, first: Topology, other: Topology, *, advice: str) -> None:
    """Require the same rows in the same order of the same lattice; rows are compared where it is not one topology.

    Raises:
        ValueError: says how the two differ, and ``advice``.
    """
    difference = _difference(first, other)
    if difference:
        raise ValueError(f"{op}: both must have the same voxels in the same order, got {difference}; {advice}")


def check_same_lattice(op: str, first: Topology, other: Topology, *, batch_size: bool = True) -> None:
    """Require equal axes, spatial_shape, tensor_stride and device (and batch_size); the voxels may differ.

    Raises:
        ValueError: names what differs.
    """
    difference = _lattice_difference(first, other)
    if not difference and batch_size and first.batch_size != other.batch_size:
        difference = _values("batch_size", first, other)
    if difference:
        raise ValueError(f"{op}: all tensors must lie on the same lattice, got {difference}")


def check_same_features(op: str, tensors: Sequence) -> None:
    """Require equal channels and dtype."""
    first = tensors[0].feats
    for number, tensor in enumerate(tensors[1:], start=1):
        if tensor.num_channels != first.shape[1] or tensor.dtype != first.dtype:
            raise ValueError(
                f"{op}: all tensors must have the channels and dtype of the first, {describe(first)}, "
                f"got {describe(tensor.feats)} for number {number}"
            )


def _difference(first: Topology, other: Topology) -> str | None:
    if first is other:
        return None
    if difference := _lattice_difference(first, other):
        return difference
    if first.batch_size != other.batch_size:
        return _values("batch_size", first, other)
    a, b = first.coords, other.coords
    if len(a) != len(b):
        return f"{len(a)} and {len(b)} voxels"
    if torch.equal(a, b):
        return None
    row = int((a != b).any(1).int().argmax())
    order = "another order" if torch.equal(ops.unique_coords(a).coords, ops.unique_coords(b).coords) else "other voxels"
    return f"{order} (first at row {row}: {a[row].tolist()} and {b[row].tolist()})"


def _lattice_difference(first: Topology, other: Topology) -> str | None:
    if first.dims != other.dims:
        return f"{first.dims} and {other.dims} spatial axes"
    for name in ("spatial_shape", "tensor_stride"):
        if getattr(first, name) != getattr(other, name):
            return _values(name, first, other)
    if first.coords.device != other.coords.device:
        return f"device {first.coords.device} and {other.coords.device}"
    return None


def _values(name: str, first: Topology, other: Topology) -> str:
    return f"{name} {getattr(first, name)} and {getattr(other, name)}"


_HOW_TO_ADD = (
    "; where the batch column is missing put it in front, for one cloud torch.nn.functional.pad(coords, (1, 0))"
)


def _columns(dims: int) -> str:
    """[batch, x, y] for two axes."""
    return f"[{', '.join(('batch', *'xyzt'[:dims]))}]"


def _is_inside(extent: ops.CoordsExtent, sizes: list[int]) -> bool:
    """Whether the first columns are in [0, size)."""
    return all(low >= 0 and high < size for low, high, size in zip(*extent, sizes, strict=False))
