# SPDX-License-Identifier: Apache-2.0
"""Where voxels are, and how far apart."""

import operator
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, dataclass, field
from fractions import Fraction

from torch import Tensor

from pcperc import ops

Axes = tuple[int, ...]  # a whole number for each axis
Spacing = tuple[int | Fraction, ...]


# Not frozen=True: in spite of eq=False, torch's compiler then tells keys of a dict apart by their fields, and finds no
# kernel map again once is_distinct has changed.
@dataclass(eq=False)
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
        own = vars(self)
        own["coords"] = coords
        own["batch_size"] = batch_size
        own["spatial_shape"] = spatial_shape
        own["tensor_stride"] = tensor_stride
        own["is_padded"] = is_padded
        own["is_written"] = is_written
        own["is_distinct"] = made_by_operator

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"Topology: cannot assign to {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"Topology: cannot delete {name!r}")

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
            raise ValueError(f"{op}: coords must be distinct rows in range ({error}){how_to_merge(error)}") from error
        self.note_distinct()

    def note_distinct(self) -> None:
        vars(self)["is_distinct"] = True

    @property
    def dims(self) -> int:
        """Number of spatial axes D."""
        return self.coords.shape[1] - 1


def to_spacing(value: int | Fraction | Sequence[int | Fraction], dims: int) -> Spacing:
    """One number > 0 for each axis; a whole one as int, so that equal spacings look alike."""
    if type(value) is int and value > 0:
        return (value,) * dims
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * dims
    if any(isinstance(v, bool) or not isinstance(v, int | Fraction) for v in values):
        raise TypeError(f"SparseTensor: tensor_stride must be of whole numbers or Fractions, got {value!r}")
    if len(values) != dims or min(values) <= 0:
        raise ValueError(f"SparseTensor: tensor_stride must be a number > 0 or {dims} of them, got {value!r}")
    return tuple(int(v) if v == int(v) else v for v in values)


def coarser(tensor_stride: Spacing, stride: Axes) -> Spacing:
    """Return the spacing after a convolution with this stride."""
    return tuple(a * b if isinstance(a, int) else _ratio(a * b, 1) for a, b in zip(tensor_stride, stride, strict=True))


def finer(tensor_stride: Spacing, stride: Axes) -> Spacing:
    """Return the spacing after a transposed convolution with this stride."""
    return tuple(_ratio(a, b) for a, b in zip(tensor_stride, stride, strict=True))


def _ratio(a: int | Fraction, b: int) -> int | Fraction:
    """a / b, exactly; a whole number is an int."""
    a = a if isinstance(a, Fraction) else operator.index(a)  # a constant under torch.compile, which traces no Fraction
    return int(a // b) if a % b == 0 else Fraction(a) / b


def how_to_merge(error: ValueError) -> str:
    """Return what to add to a message of repeated rows, "" for another one."""
    hint = "; pcperc.nn.point_to_voxel(pcperc.PointTensor(coords.float(), feats)) takes the mean of equal rows"
    return hint if "repeats an earlier row" in str(error) else ""
