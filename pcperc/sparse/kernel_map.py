# SPDX-License-Identifier: Apache-2.0
"""Which voxels a convolution connects."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from pcperc import ops
from pcperc.sparse.topology import Axes, Topology, how_to_merge

_ORDERED_ROWS = 8192  # an order does not pay for its launches on tables of fewer columns


class ConvolutionTables(NamedTuple):
    """What ``ops.sparse_conv`` takes of a kernel map."""

    neighbors: Tensor  # (K, M) int32
    reverse_neighbors: Tensor | None  # (K, N) int32
    row_order: Tensor | None  # (M,) int32, of the columns of ``neighbors``
    reverse_row_order: Tensor | None  # (N,) int32
    pairs: ops.TapPairs | None  # of ``neighbors``, not listed yet


@dataclass(frozen=True, eq=False)
class KernelMap:
    """The (input, output, tap) triples of a convolution, or of a transposed one. Tables are built when first asked for.

    Of the two topologies, the fine one is the source of a convolution and the target of a transposed one. A fine and a
    coarse row are connected under tap t where ``fine = stride * coarse + dilation * t - padding``.

    Threads may use one map, on a GPU on one stream: of two that build a table at once both take the one that was kept
    first (``setdefault``).
    """

    source: Topology
    target: Topology
    kernel_size: Axes
    stride: Axes
    padding: Axes
    dilation: Axes
    transposed: bool = False
    # (K, M_coarse) "fine" and (K, M_fine) "coarse", the rows that they name; "fine ordered" and so on: with their
    # columns in the order of their taps, and that order; "fine pairs" and so on. One dict for a map and its inverse.
    _tables: dict[str, Tensor | tuple[Tensor, Tensor] | ops.TapPairs] = field(default_factory=dict, repr=False)
    _inverse: list["KernelMap"] = field(default_factory=list, repr=False)  # it, once it was asked for
    _convolution: dict[bool, ConvolutionTables] = field(default_factory=dict, repr=False)  # with and without reverse

    @property
    def neighbors(self) -> Tensor:
        """(K, M) int32: row of ``source`` under each tap of each row of ``target``, or -1."""
        return self._coarse_rows() if self.transposed else self._fine_rows()

    @property
    def reverse_neighbors(self) -> Tensor:
        """(K, N) int32: row of ``target`` that each row of ``source`` feeds under each tap, or -1."""
        return self._fine_rows() if self.transposed else self._coarse_rows()

    def convolution_tables(self, *, with_reverse: bool) -> ConvolutionTables:
        """Return what ``ops.sparse_conv`` takes, without the reverse tables where they are not needed.

        On a GPU the columns of large tables come in the order of ``ops.order_rows``, on a CPU in that of the rows.
        Where windows do not overlap, the order costs more than it saves: always for coarse rows, and for fine ones
        that are looked up once, without gradients.
        """
        is_traced = torch.compiler.is_compiling()
        tables = None if is_traced else self._convolution.get(with_reverse)
        if tables is None:
            fine, coarse = ("coarse", "fine") if self.transposed else ("fine", "coarse")
            neighbors, row_order = self._in_order(fine, with_reverse)
            reverse, reverse_row_order = self._in_order(coarse, True) if with_reverse else (None, None)
            pairs = None if is_traced else self._pairs(fine, neighbors, row_order)
            tables = ConvolutionTables(neighbors, reverse, row_order, reverse_row_order, pairs)
            if not is_traced:
                tables = self._convolution.setdefault(with_reverse, tables)
        return tables

    def keep_tables(self, neighbors: Tensor | None = None, reverse_neighbors: Tensor | None = None) -> None:
        """Take over the tables of a convolution that an operator made with its outputs, unless there are some."""
        for name, table in (("fine", neighbors), ("coarse", reverse_neighbors)):
            if table is not None:
                self._tables.setdefault(name, table)

    def _pairs(self, name: str, neighbors: Tensor, row_order: Tensor | None) -> ops.TapPairs:
        """The pairs of a table, listed once for the weight gradients of all layers along it."""
        key = f"{name} pairs" if row_order is None else f"{name} ordered pairs"
        if key not in self._tables:
            return self._tables.setdefault(key, ops.TapPairs(neighbors, self.source.coords.shape[0], row_order))
        return self._tables[key]

    def _in_order(self, name: str, is_used_twice: bool) -> tuple[Tensor, Tensor | None]:
        rows = self._fine_rows() if name == "fine" else self._coarse_rows()
        if not rows.is_cuda or rows.shape[1] < _ORDERED_ROWS or rows.shape[0] == 1:
            return rows, None
        if self.kernel_size == self.stride and (name == "fine" or not is_used_twice):
            return rows, None
        key = f"{name} ordered"
        if key not in self._tables:
            if name == "coarse" and self._is_symmetric:  # rows with the same taps have the same mirrored taps
                ordered, order = self._in_order("fine", is_used_twice)
                made = build_to_keep(lambda: ordered.flip(0)), order
            else:
                made = build_to_keep(lambda: ops.order_rows(rows))
            return self._tables.setdefault(key, made)
        return self._tables[key]

    @property
    def inverse(self) -> "KernelMap":
        """The same triples from ``target`` to ``source``; its tables are these, the other way round."""
        if self._inverse:
            return self._inverse[0]
        geometry = (self.kernel_size, self.stride, self.padding, self.dilation)
        inverse = KernelMap(self.target, self.source, *geometry, not self.transposed, self._tables)
        if not torch.compiler.is_compiling():  # a compiled program that returns the tensor could not return this too
            self._inverse.append(inverse)
        return inverse

    def _fine_rows(self) -> Tensor:
        if "fine" not in self._tables:
            return self._tables.setdefault("fine", build_to_keep(self._build))
        return self._tables["fine"]

    def _build(self) -> Tensor:
        fine, coarse = self._fine_and_coarse
        if self._is_symmetric and math.prod(self.kernel_size) == 1:  # each row sees itself: nothing to look up
            fine.require_distinct("build_kernel_map")
            return torch.arange(fine.coords.shape[0], dtype=torch.int32, device=fine.coords.device).unsqueeze(0)
        try:
            neighbors = ops.build_kernel_map(
                fine.coords,
                coarse.coords,
                kernel_size=self.kernel_size,
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
                check=not (fine.is_distinct and coarse.is_distinct),
            )
        except ValueError as error:
            problem = str(error).removeprefix("build_kernel_map: ")
            raise ValueError(f"build_kernel_map: {problem}{how_to_merge(error)}") from error
        fine.note_distinct()  # the operator looked
        coarse.require_distinct("build_kernel_map")
        return neighbors

    def _coarse_rows(self) -> Tensor:
        if "coarse" not in self._tables:
            return self._tables.setdefault("coarse", build_to_keep(self._reverse))
        return self._tables["coarse"]

    def _reverse(self) -> Tensor:
        if self._is_symmetric:
            return self._fine_rows().flip(0)
        neighbors, (fine, _) = self._fine_rows(), self._fine_and_coarse  # of distinct rows, or it had not been built
        return ops.reverse_kernel_map(neighbors, num_inputs=fine.coords.shape[0], check=False)

    @property
    def _fine_and_coarse(self) -> tuple[Topology, Topology]:
        return (self.target, self.source) if self.transposed else (self.source, self.target)

    @property
    def _is_symmetric(self) -> bool:
        """Tap t from m to n is then tap K - 1 - t from n to m."""
        if self.source is not self.target or any(s != 1 for s in self.stride):
            return False
        axes = zip(self.padding, self.dilation, self.kernel_size, strict=True)
        return all(2 * p == d * (k - 1) for p, d, k in axes)


def build_to_keep(build: Callable):
    """Build as usual under torch.inference_mode too, whose own tensors a later training step could not use."""
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return build()
    with torch.inference_mode(False):
        return build()
