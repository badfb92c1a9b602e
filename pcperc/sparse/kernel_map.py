# SPDX-License-Identifier: Apache-2.0
"""Where voxels are, which voxels a convolution connects, and the cache that builds each connection once."""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction

import torch
from torch import Tensor

from pcperc import ops
from pcperc.ops.unique_coords import conv_output_shape

_ORDERED_ROWS = 8192  # an order does not pay for its launches on tables of fewer columns

Axes = tuple[int, ...]  # a whole number for each axis
Spacing = tuple[int | Fraction, ...]


@dataclass(frozen=True, eq=False)
class Topology:
    """The voxels of one or more sparse tensors. Compared by identity: equal coordinates alone do not make it equal."""

    coords: Tensor  # (M, 1 + D) int32 [batch, x, y, z] for D = 3, distinct rows
    batch_size: int
    spatial_shape: Axes | None  # (X, Y, Z), or None for an unbounded lattice
    tensor_stride: Spacing  # lattice spacing, in cells of the first tensor; a Fraction on a finer lattice
    is_padded: bool = False  # rows of batch index -1 may stand among the others: they are no voxels
    is_written: bool = False  # the GPU's stream for new topologies may read the rows without waiting for another
    # Whether rows are known to be distinct and in range; what needs it checks others once. Not copied by `replace`.
    is_distinct: bool = field(default=False, init=False)

    def __init__(
        self,
        coords: Tensor,
        batch_size: int,
        spatial_shape: Axes | None,
        tensor_stride: Spacing,
        *,
        made_by_operator: bool = False,
        is_padded: bool = False,
        is_written: bool = False,
    ):
        values = (coords, batch_size, spatial_shape, tensor_stride, is_padded, is_written, made_by_operator)
        for each, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, each.name, value)

    def require_distinct(self, op: str) -> None:
        """Look once whether rows are distinct and in range; on a GPU that is a wait.

        Raises:
            ValueError: they are not; the message begins with ``op`` and names the first such row.
        """
        if self.is_distinct:
            return
        try:
            ops.build_kernel_map(self.coords, self.coords, kernel_size=1)
        except ValueError as error:
            raise ValueError(f"{op}: coords must be distinct rows in range ({error})") from error
        self.note_distinct()

    def note_distinct(self) -> None:
        object.__setattr__(self, "is_distinct", True)

    @property
    def dims(self) -> int:
        """Number of spatial axes D."""
        return self.coords.shape[1] - 1


@dataclass(frozen=True, eq=False)
class KernelMap:
    """The (input, output, tap) triples of a convolution, or of a transposed one. Tables are built when first asked for.

    Of the two topologies, the fine one is the source of a convolution and the target of a transposed one. A fine and a
    coarse row are connected under tap t where ``fine = stride * coarse + dilation * t - padding``.
    """

    source: Topology
    target: Topology
    kernel_size: Axes
    stride: Axes
    padding: Axes
    dilation: Axes
    transposed: bool = False
    # (K, M_coarse) "fine" and (K, M_fine) "coarse", the rows that they name; "fine ordered" and so on: with their
    # columns in the order of their taps. One dict for a map and its inverse.
    _tables: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _inverse: list["KernelMap"] = field(default_factory=list, repr=False)  # it, once it was asked for

    @property
    def neighbors(self) -> Tensor:
        """(K, M) int32: row of ``source`` under each tap of each row of ``target``, or -1."""
        return self._coarse_rows() if self.transposed else self._fine_rows()

    @property
    def reverse_neighbors(self) -> Tensor:
        """(K, N) int32: row of ``target`` that each row of ``source`` feeds under each tap, or -1."""
        return self._fine_rows() if self.transposed else self._coarse_rows()

    def convolution_tables(self, *, with_reverse: bool) -> dict[str, Tensor | None]:
        """Return the tables and row orders that ``ops.sparse_conv`` takes, without the reverse ones where not needed.

        On a GPU the columns of large tables come in the order of ``ops.order_rows``, on a CPU in that of the rows.
        Where windows do not overlap, the order costs more than it saves: always for coarse rows, and for fine ones
        that are looked up once, without gradients.
        """
        fine, coarse = ("coarse", "fine") if self.transposed else ("fine", "coarse")
        neighbors, row_order = self._in_order(fine, with_reverse)
        reverse = self._in_order(coarse, True) if with_reverse else (None, None)
        return {
            "neighbors": neighbors,
            "reverse_neighbors": reverse[0],
            "row_order": row_order,
            "reverse_row_order": reverse[1],
        }

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
                self._tables[key], self._tables[f"{name} order"] = _build_to_keep(lambda: ordered.flip(0)), order
            else:
                self._tables[key], self._tables[f"{name} order"] = _build_to_keep(lambda: ops.order_rows(rows))
        return self._tables[key], self._tables[f"{name} order"]

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
            self._tables["fine"] = _build_to_keep(self._build)
        return self._tables["fine"]

    def _build(self) -> Tensor:
        fine, coarse = self._fine_and_coarse
        if self._is_symmetric and math.prod(self.kernel_size) == 1:  # each row sees itself: nothing to look up
            fine.require_distinct("build_kernel_map")
            return torch.arange(fine.coords.shape[0], dtype=torch.int32, device=fine.coords.device).unsqueeze(0)
        neighbors = ops.build_kernel_map(
            fine.coords,
            coarse.coords,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            check=not (fine.is_distinct and coarse.is_distinct),
        )
        fine.note_distinct()  # the operator looked
        coarse.require_distinct("build_kernel_map")
        return neighbors

    def _coarse_rows(self) -> Tensor:
        if "coarse" not in self._tables:
            self._tables["coarse"] = _build_to_keep(self._reverse)
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
        centred = all(
            2 * p == d * (k - 1) for p, d, k in zip(self.padding, self.dilation, self.kernel_size, strict=True)
        )
        return self.source is self.target and all(s == 1 for s in self.stride) and centred


def _build_to_keep(build: Callable):
    """Build as usual under torch.inference_mode too, whose own tensors a later training step could not use."""
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return build()
    with torch.inference_mode(False):
        return build()


def _run_beside(source: Topology, find_coords: Callable[[], Tensor]) -> Tensor:
    """Find new voxels on a stream of their own, where the wait for their number is none for layers queued before."""
    if not source.coords.is_cuda or not source.is_written or torch.compiler.is_compiling():
        return find_coords()
    device = source.coords.device
    current, beside = torch.cuda.current_stream(device), _topology_stream(device)
    with torch.cuda.stream(beside):
        coords = find_coords()
    current.wait_stream(beside)
    coords.record_stream(current)
    return coords


@functools.cache
def _topology_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device, priority=-1)


def coarser(tensor_stride: Spacing, stride: Axes) -> Spacing:
    """Return the spacing after a convolution with this stride."""
    return tuple(_ratio(a * b, 1) for a, b in zip(tensor_stride, stride, strict=True))


def finer(tensor_stride: Spacing, stride: Axes) -> Spacing:
    """Return the spacing after a transposed convolution with this stride."""
    return tuple(_ratio(a, b) for a, b in zip(tensor_stride, stride, strict=True))


def _ratio(a: int | Fraction, b: int) -> int | Fraction:
    """a / b, exactly; a whole number is an int."""
    a = a if isinstance(a, Fraction) else operator.index(a)  # a constant under torch.compile, which traces no Fraction
    return int(a // b) if a % b == 0 else Fraction(a) / b


class KernelMapCache:
    """The kernel maps of one network pass, shared by all tensors derived from its input.

    A map is found again by its topologies (a new one by the rule that makes it) and its kernel, stride, padding and
    dilation, whatever kind of layer asks. The cache lives as long as one of these tensors.

    Args:
        capacities: for a pass over padding (``pcperc.nn.capture``): the rows, padding included, that each new topology
            of a step down gets, in the order in which they are made. Nothing then waits for a GPU; ``incomplete``, a ()
            bool for each, says where voxels found no room. None: as many rows as there are voxels.
    """

    def __init__(self, capacities: Sequence[int] | None = None) -> None:
        self.capacities = capacities
        self.incomplete: list[Tensor] = []
        self._between: dict[tuple, KernelMap] = {}  # from fine to coarse
        self._convolved: dict[tuple, KernelMap] = {}  # those of them that a layer took in this direction
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
        geometry = (kernel_size, stride, padding, dilation)
        key = (target, source, *geometry) if transposed else (source, target, *geometry)
        if key not in self._between:
            self._between[key] = KernelMap(*key)
        if transposed:
            return self._between[key].inverse
        self._convolved[key] = self._between[key]
        return self._between[key]

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
            self._downsampled[key] = self.between(source, self._downsample(op, source, **geometry), **geometry)
        return self._downsampled[key]

    @property
    def downsampled_rows(self) -> list[int]:
        """Rows of each new topology of a step down, in the order in which they were made."""
        return [kernel_map.target.coords.shape[0] for kernel_map in self._downsampled.values()]

    def _downsample(self, op: str, source: Topology, **geometry: Axes) -> Topology:
        shape = _downsampled_shape(op, source.spatial_shape, **geometry)
        options = dict(geometry, spatial_shape=source.spatial_shape)
        if self.capacities is None:
            coords = _run_beside(source, lambda: ops.downsample_coords(source.coords, **options))
        else:
            step, given = len(self._downsampled), len(self.capacities)
            if step >= given:
                raise ValueError(f"{op}: capacities must have one for each step down, got {given} for step {step + 1}")
            coords, incomplete = ops.downsample_coords(source.coords, **options, capacity=self.capacities[step])
            self.incomplete.append(incomplete)
        stride = coarser(source.tensor_stride, geometry["stride"])
        padded = self.capacities is not None
        options = dict(made_by_operator=True, is_padded=padded, is_written=source.is_written and not padded)
        return Topology(coords, source.batch_size, shape, stride, **options)

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
            self._upsampled[key] = self.between(source, target, **geometry, transposed=True)
        return self._upsampled[key]

    def that_made(self, target: Topology, *, kernel_size: Axes, op: str = "that_made") -> KernelMap:
        """Return the one map of a convolution from another topology to ``target`` that has this kernel size.

        Raises:
            ValueError: none or several would fit; the message begins with ``op``.
        """
        makers = [m for m in list(self._convolved.values()) if m.target is target and m.source is not target]
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
            self._batch_segments[topology] = _build_to_keep(
                lambda: ops.make_segments(topology.coords[:, 0], num_segments=topology.batch_size)
            )
        return self._batch_segments[topology]


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
