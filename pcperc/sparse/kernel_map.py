# SPDX-License-Identifier: Apache-2.0
"""Where voxels are, which voxels a convolution connects, and the cache that builds each connection once."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from pcperc import ops
from pcperc.ops.unique_coords import conv_output_shape

Triple = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Topology:
    """The voxels of one or more sparse tensors. Compared by identity: equal coordinates alone do not make it equal."""

    coords: Tensor  # (M, 4) int32 [batch, x, y, z], distinct rows
    batch_size: int
    spatial_shape: Triple | None  # (X, Y, Z), or None for an unbounded lattice
    tensor_stride: Triple  # lattice spacing, in cells of the first tensor


@dataclass(frozen=True, eq=False)
class KernelMap:
    """The (input, output, tap) triples of a convolution. Tables are built when first asked for.

    Input row n and output row m are connected under tap t where
    ``source[n] = stride * target[m] + dilation * t - padding``.
    """

    source: Topology
    target: Topology
    kernel_size: Triple
    stride: Triple
    padding: Triple
    dilation: Triple

    @cached_property
    def neighbors(self) -> Tensor:
        """(K, M) int32: row of ``source`` under each tap of each row of ``target``, or -1."""
        return ops.build_kernel_map(
            self.source.coords,
            self.target.coords,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )

    @cached_property
    def reverse_neighbors(self) -> Tensor:
        """(K, N) int32: row of ``target`` that each row of ``source`` feeds under each tap, or -1."""
        if self._is_symmetric:
            return self.neighbors.flip(0)
        return ops.reverse_kernel_map(self.neighbors, num_inputs=self.source.coords.shape[0])

    @property
    def _is_symmetric(self) -> bool:
        """Tap t from m to n is then tap K - 1 - t from n to m."""
        centred = all(
            2 * p == d * (k - 1) for p, d, k in zip(self.padding, self.dilation, self.kernel_size, strict=True)
        )
        return self.source is self.target and self.stride == (1, 1, 1) and centred


class KernelMapCache:
    """The kernel maps of one network pass, shared by all tensors derived from its input.

    A map is found again by its topologies (the output may be given by a rule instead) and its kernel, stride, padding
    and dilation. The cache lives as long as one of these tensors.
    """

    def __init__(self) -> None:
        self._between: dict[tuple, KernelMap] = {}
        self._downsampled: dict[tuple, KernelMap] = {}

    def __len__(self) -> int:
        return len(self._between)

    def between(
        self,
        source: Topology,
        target: Topology,
        *,
        kernel_size: Triple,
        stride: Triple,
        padding: Triple,
        dilation: Triple,
    ) -> KernelMap:
        """Return the map between two given topologies; both are the same one for a submanifold convolution."""
        key = (source, target, kernel_size, stride, padding, dilation)
        if key not in self._between:
            self._between[key] = KernelMap(*key)
        return self._between[key]

    def downsampled(
        self, source: Topology, *, kernel_size: Triple, stride: Triple, padding: Triple, dilation: Triple
    ) -> KernelMap:
        """Return the map to all outputs that ``source`` reaches; its ``target`` is new on the first call.

        Raises:
            ValueError: the kernel is larger than the padded ``spatial_shape``.
        """
        key = (source, kernel_size, stride, padding, dilation)
        if key not in self._downsampled:
            parameters = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
            target = _downsample(source, **parameters)
            self._downsampled[key] = self.between(source, target, **parameters)
        return self._downsampled[key]

    def that_made(self, target: Topology, *, kernel_size: Triple) -> KernelMap:
        """Return the one map from another topology to ``target`` that has this kernel size.

        Raises:
            ValueError: none or several would fit.
        """
        makers = [m for m in self._between.values() if m.target is target and m.source is not target]
        fitting = [m for m in makers if m.kernel_size == kernel_size]
        if len(fitting) == 1:
            return fitting[0]
        found = ", ".join(f"kernel_size {m.kernel_size} stride {m.stride}" for m in makers) or "none"
        raise ValueError(
            f"SparseInverseConv3d: exactly one convolution with kernel_size {kernel_size} must have made the "
            f"coordinates of the input, got {len(fitting)} (convolutions that made them: {found})"
        )


def _downsample(
    source: Topology, *, kernel_size: Triple, stride: Triple, padding: Triple, dilation: Triple
) -> Topology:
    shape = source.spatial_shape
    if shape is not None:
        shape = conv_output_shape(source.spatial_shape, kernel_size, stride, padding, dilation)
        if min(shape) < 1:
            raise ValueError(
                f"SparseConv3d: the output would have size {shape} for spatial_shape {source.spatial_shape}, "
                f"kernel_size {kernel_size}, stride {stride}, padding {padding}, dilation {dilation}"
            )
    coords = ops.downsample_coords(
        source.coords,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        spatial_shape=source.spatial_shape,
    )
    tensor_stride = tuple(a * b for a, b in zip(source.tensor_stride, stride, strict=True))
    return Topology(coords, source.batch_size, shape, tensor_stride)
