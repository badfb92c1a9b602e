# SPDX-License-Identifier: Apache-2.0
"""The cache that builds each topology and each kernel map of a network pass once."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from pcperc import ops
from pcperc.ops.unique_coords import conv_output_shape
from pcperc.sparse.kernel_map import KernelMap, build_to_keep
from pcperc.sparse.topology import Axes, Topology, coarser, finer

Found = TypeVar("Found", Tensor, ops.DownsampledMap)
_MOST_KNOWN_TAPS = 8
_ROWS_BESIDE = 1 << 16  # of fewer rows layers take less time than the change of streams


class KernelMapCache:
    """The kernel maps of one network pass, shared by all tensors derived from its input.

    A map is found again by its topologies (a new one by the rule that makes it) and its kernel, stride, padding and
    dilation, whatever kind of layer asks. The cache lives as long as one of these tensors. Of threads that make one at
    once all get that which was kept first.

    Args:
        capacities: for a pass over padding (``pcperc.nn.capture``): the rows, padding included, that each new topology
            of a step down gets, in the order in which they are made. Nothing then waits for a GPU; ``incomplete``, a ()
            bool for each, says where voxels found no room. None: as many rows as there are voxels.
    """

    def __init__(self, capacities: Sequence[int] | None = None) -> None:
        self.capacities = capacities
        self.incomplete: list[Tensor] = []
        self._between: dict[tuple, KernelMap] = {}  # from fine to coarse
        self._convolved: dict[tuple, KernelMap] = {}  # those of them to other voxels, taken that way
        self._downsampled: dict[tuple, KernelMap] = {}
        self._upsampled: dict[tuple, KernelMap] = {}
        self._batch_segments: dict[Topology, ops.Segments] = {}

    def __len__(self) -> int:
        return len(self._between)

    def between(
        self,
        source: Topology,
        target: Topology,
        *,
        kernel_size: Axes,
        stride: Axes,
        padding: Axes,
        dilation: Axes,
        transposed: bool = False,
    ) -> KernelMap:
        """Return the map between two given topologies; both are the same one for a submanifold convolution."""
        fine, coarse = (target, source) if transposed else (source, target)
        key = (fine, coarse, kernel_size, stride, padding, dilation)
        kernel_map = self._between.get(key)
        if kernel_map is None:
            kernel_map = self._between.setdefault(key, KernelMap(*key))
        if transposed:
            return kernel_map.inverse
        if source is not target:
            self._convolved[key] = kernel_map
        return kernel_map

    def downsampled(
        self,
        source: Topology,
        *,
        kernel_size: Axes,
        stride: Axes,
        padding: Axes,
        dilation: Axes,
        op: str = "downsampled",
    ) -> KernelMap:
        """Return the map to all outputs that ``source`` reaches; its ``target`` is new on the first call.

        Raises:
            ValueError: the kernel is larger than the padded ``spatial_shape``, or there are fewer ``capacities`` than
                steps down; the message begins with ``op``.
        """
        geometry = dict(kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)
        key = (source, kernel_size, stride, padding, dilation)
        if key not in self._downsampled:
            target, tables = self._downsample(op, source, **geometry)
            made = self.between(source, target, **geometry)
            made.keep_tables(*tables)
            return self._downsampled.setdefault(key, made)
        return self._downsampled[key]

    @property
    def downsampled_rows(self) -> list[int]:
        """Rows of each new topology of a step down, in the order in which they were made."""
        return [kernel_map.target.coords.shape[0] for kernel_map in self._downsampled.values()]

    def _downsample(self, op: str, source: Topology, **geometry: Axes) -> tuple[Topology, tuple[Tensor, ...]]:
        """The new voxels, and both tables of the map to them or none where they are looked up when asked for."""
        shape = _downsampled_shape(op, source.spatial_shape, **geometry)
        options = dict(geometry, spatial_shape=source.spatial_shape)
        padded = self.capacities is not None
        if padded:
            step, given = len(self._downsampled), len(self.capacities)
            if step >= given:
                raise ValueError(f"{op}: capacities must have one for each step down, got {given} for step {step + 1}")
            options["capacity"] = self.capacities[step]
        goes_beside = not padded and _goes_beside(source)
        tables = ()
        if _knows_tables(source, **geometry):
            del options["dilation"]
            find = functools.partial(build_to_keep, lambda: ops.downsample_with_map(source.coords, **options))
            coords, *tables, incomplete = _run_beside(source, find) if goes_beside else find()
        else:
            find = functools.partial(ops.downsample_coords, source.coords, **options)
            found = _run_beside(source, find) if goes_beside else find()
            coords, incomplete = found if padded else (found, None)
        if padded:
            self.incomplete.append(incomplete)
        stride = coarser(source.tensor_stride, geometry["stride"])
        options = dict(made_by_operator=True, is_padded=padded, is_written=goes_beside)
        return Topology(coords, source.batch_size, shape, stride, **options), tuple(tables)

    def upsampled(
        self,
        source: Topology,
        *,
        kernel_size: Axes,
        stride: Axes,
        padding: Axes,
        dilation: Axes,
        output_shape: Axes | None = None,
    ) -> KernelMap:
        """Return the transposed map to all outputs that ``source`` reaches; its ``target`` is new on the first call.

        Args:
            output_shape: ``spatial_shape`` of the target, outside which nothing is made; None for an unbounded lattice.
        """
        geometry = dict(kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)
        key = (source, kernel_size, stride, padding, dilation, output_shape)
        if key not in self._upsampled:
            if source.is_padded:
                raise ValueError("upsampled: voxels that a transposed convolution makes have no place in a padded pass")
            coords = ops.upsample_coords(source.coords, **geometry, output_shape=output_shape)
            target = Topology(
                coords, source.batch_size, output_shape, finer(source.tensor_stride, stride), made_by_operator=True
            )
            made = self.between(source, target, **geometry, transposed=True)
            return self._upsampled.setdefault(key, made)
        return self._upsampled[key]

    def that_made(self, target: Topology, *, kernel_size: Axes, op: str = "that_made") -> KernelMap:
        """Return the one map of a convolution from another topology to ``target`` that has this kernel size.

        Raises:
            ValueError: none or several would fit; the message begins with ``op``.
        """
        makers = [m for m in list(self._convolved.values()) if m.target is target]
        fitting = [m for m in makers if m.kernel_size == kernel_size]
        if len(fitting) == 1:
            return fitting[0]
        found = ", ".join(f"kernel_size {m.kernel_size} stride {m.stride}" for m in makers) or "none"
        raise ValueError(
            f"{op}: input must have coordinates that exactly one convolution or pooling with kernel_size "
            f"{kernel_size} made, got {len(fitting)} (layers that made them: {found})"
        )

    def batch_segments(self, topology: Topology) -> ops.Segments:
        """Return the rows of each batch item."""
        if topology not in self._batch_segments:
            made = build_to_keep(lambda: ops.make_segments(topology.coords[:, 0], num_segments=topology.batch_size))
            return self._batch_segments.setdefault(topology, made)
        return self._batch_segments[topology]


def _knows_tables(source: Topology, *, kernel_size: Axes, stride: Axes, padding: Axes, dilation: Axes) -> bool:
    """Whether the operator that finds the new voxels on a GPU knows the tables of the map too: windows do not overlap.

    Both tables then exist though an encoder may need one: taps are few, and they take less memory than features do.
    """
    return (
        source.coords.is_cuda
        and kernel_size == stride
        and source.is_distinct
        and math.prod(kernel_size) <= _MOST_KNOWN_TAPS
        and all(step == 1 for step in dilation)
        and not torch.compiler.is_compiling()
    )


def _goes_beside(source: Topology) -> bool:
    is_large = source.coords.is_cuda and source.is_written and not torch.compiler.is_compiling()
    return is_large and source.coords.shape[0] >= _ROWS_BESIDE


def _run_beside(source: Topology, find: Callable[[], Found]) -> Found:
    """Find new voxels on a stream of their own, where the wait for their number is none for layers queued before."""
    device = source.coords.device
    current, beside = torch.cuda.current_stream(device), _topology_stream(device)
    with torch.cuda.stream(beside):
        found = find()
    current.wait_stream(beside)
    for tensor in (found,) if isinstance(found, Tensor) else found:
        if tensor is not None:
            tensor.record_stream(current)
    return found


@functools.cache
def _topology_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device, priority=-1)


def _downsampled_shape(op: str, shape: Axes | None, **geometry: Axes) -> Axes | None:
    if shape is None:
        return None
    smaller = conv_output_shape(shape, **geometry)
    if min(smaller) < 1:
        words = ", ".join(f"{name} {value}" for name, value in geometry.items())
        raise ValueError(
            f"{op}: spatial_shape of the input must leave an output of size >= 1, got {shape}, "
            f"which leaves {smaller} with {words}"
        )
    return smaller
