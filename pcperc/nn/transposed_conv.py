# SPDX-License-Identifier: Apache-2.0
"""Sparse convolutions from coarse voxels to finer ones: transposed, generative, and inverse of an earlier layer."""

import torch

from pcperc.nn._checks import check_input
from pcperc.nn.conv_base import PerAxis, SparseConvBase
from pcperc.sparse import KernelMap, SparseTensor
from pcperc.sparse.topology import finer


class SparseConvTranspose(SparseConvBase):
    """Transposed convolution: every voxel that an input voxel reaches through the kernel; new voxels are sorted by key.

    Input voxel c reaches ``stride * c + dilation * tap - padding``. On a bounded lattice the sizes follow
    ``torch.nn.ConvTranspose3d`` and what lies outside is dropped: on a tensor that is full everywhere the two are
    equal. Without a ``spatial_shape`` nothing is dropped and output_padding changes nothing.
    ``conv(x, target=y)`` gives the outputs at the voxels of ``y`` instead, in their order: the usual step up in a
    U-Net, with the skip connection as ``y``.

    Args:
        in_channels, out_channels: channels, >= 1.
        kernel_size, stride, padding, dilation: one number for all axes or one each.
        output_padding: added to the size of the output at its end; less than stride or dilation.
        groups: divides both channels; each group of output channels sees its group of input channels alone.
        bias: whether to add a learned bias (to the output voxels only).
        backend: None, or "spconv": spconv computes it instead, see ``SparseConvBase``.
        device, dtype: of the parameters, as in torch's layers.
    Shape: SparseTensor with (N, in_channels) features to one with (M, out_channels) and ``tensor_stride`` divided by
        stride, a ``fractions.Fraction`` where that is no whole number; M may be 0. ``target``: SparseTensor of the same
        batch_size on that lattice; where both lattices are bounded, of a size that torch's ``output_size`` may have.
    Raises:
        TypeError, ValueError: an argument, or an input of other channels or dimensions; a target on another lattice;
            repeated coords.
    """

    backends = ("spconv",)
    _shown = ("stride", "padding", "output_padding", "dilation")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: PerAxis = 0,
        output_padding: PerAxis = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: PerAxis = 1,
        *,
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias, backend=backend)
        super().__init__(in_channels, out_channels, kernel_size, **options, device=device, dtype=dtype)
        self.output_padding = self._per_axis("output_padding", output_padding, low=0)
        limits = tuple(max(s, d) for s, d in zip(self.stride, self.dilation, strict=True))
        if any(p >= limit for p, limit in zip(self.output_padding, limits, strict=True)):
            raise ValueError(
                f"{type(self).__name__}: output_padding must be less than stride or dilation, {limits}, "
                f"got {self.output_padding}"
            )

    def kernel_map(self, x: SparseTensor, target: SparseTensor | None = None) -> KernelMap:
        check_input(self, x, channels=self.in_channels, dims=self.dims)
        if target is None:
            shape = x.spatial_shape and self._output_shape(x.spatial_shape)
            return x.kernel_maps.upsampled(x.topology, **self.geometry, output_shape=shape)
        self._check_target(x, target, tensor_stride=finer(x.tensor_stride, self.stride))
        if x.spatial_shape is not None and target.spatial_shape is not None:
            smallest = self._smallest_shape(x.spatial_shape)
            largest = tuple(n + max(s, d) - 1 for n, s, d in zip(smallest, self.stride, self.dilation, strict=True))
            self._check_target_shape(target, smallest, largest)
        return x.kernel_maps.between(x.topology, target.topology, **self.geometry, transposed=True)

    def forward(self, x: SparseTensor, target: SparseTensor | None = None) -> SparseTensor:
        return self._convolve(x, self.kernel_map(x, target))

    def _output_shape(self, spatial_shape: tuple[int, ...]) -> tuple[int, ...]:
        """torch.nn.ConvTranspose3d's output size for each axis."""
        shape = tuple(n + p for n, p in zip(self._smallest_shape(spatial_shape), self.output_padding, strict=True))
        if min(shape) < 1:
            raise ValueError(
                f"{type(self).__name__}: spatial_shape of the input must leave an output of size >= 1, got "
                f"{spatial_shape}, which leaves {shape} with padding {self.padding}"
            )
        return shape

    def _smallest_shape(self, spatial_shape: tuple[int, ...]) -> tuple[int, ...]:
        axes = zip(spatial_shape, *self.geometry.values(), strict=True)
        return tuple((n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in axes)


class SparseGenerativeConvTranspose(SparseConvBase):
    """Transposed convolution with a centred kernel that makes every voxel under it, to grow a shape out of few voxels.

    Input voxel c reaches ``stride * c + dilation * j``, with j from -(k - 1) / 2 to (k - 1) / 2 where the kernel size k
    is odd and from 0 to k - 1 where it is even, as in MinkowskiEngine's ``MinkowskiGenerativeConvolutionTranspose``.
    :class:`SparseConvTranspose` counts from ``-padding`` instead, has torch's sizes, and can be given its outputs. On a
    bounded lattice the size here is stride times that of the input, and voxels beyond it are not made.

    Args:
        in_channels, out_channels: channels, >= 1.
        kernel_size, stride, dilation: one number for all axes or one each.
        groups: divides both channels; each group of output channels sees its group of input channels alone.
        bias: whether to add a learned bias (to the output voxels only).
        backend: None, or "spconv": spconv computes it instead, see ``SparseConvBase``.
        device, dtype: of the parameters, as in torch's layers.
    Shape: SparseTensor with (N, in_channels) features to one with (M, out_channels) and ``tensor_stride`` divided by
        stride, a ``fractions.Fraction`` where that is no whole number; M may be 0.
    Raises:
        TypeError, ValueError: an argument, or an input of other channels or dimensions; repeated coords.
    Source: Gwak, Choy, Savarese, "Generative Sparse Detection Networks for 3D Single-shot Object Detection", ECCV 2020.
    """

    backends = ("spconv",)
    _shown = ("stride", "dilation")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        *,
        dilation: PerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        kernel_size = self._per_axis("kernel_size", kernel_size, low=1)
        dilation = self._per_axis("dilation", dilation, low=1)
        padding = tuple(d * (k // 2) if k % 2 else 0 for d, k in zip(dilation, kernel_size, strict=True))
        options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias, backend=backend)
        super().__init__(in_channels, out_channels, kernel_size, **options, device=device, dtype=dtype)

    def kernel_map(self, x: SparseTensor) -> KernelMap:
        check_input(self, x, channels=self.in_channels, dims=self.dims)
        shape = x.spatial_shape and tuple(n * s for n, s in zip(x.spatial_shape, self.stride, strict=True))
        return x.kernel_maps.upsampled(x.topology, **self.geometry, output_shape=shape)


class SparseInverseConv(SparseConvBase):
    """Go back to the voxels that the convolution or pooling which made the input's voxels started from.

    It is the transposed convolution along the same kernel map: on tensors that are full everywhere it equals
    ``torch.nn.ConvTranspose3d`` with the stride, padding and dilation of that layer (and the ``output_padding`` that
    gives back its input size). The map is found through the tensor; no name is needed.

    Args:
        in_channels, out_channels: channels, >= 1.
        kernel_size: that of the layer to undo.
        groups: divides both channels; each group of output channels sees its group of input channels alone.
        bias: whether to add a learned bias.
        backend: None, or the library that computes it instead, see ``SparseConvBase``.
        device, dtype: of the parameters, as in torch's layers.
    Shape: SparseTensor with (M, in_channels) features to one with (N, out_channels).
    Raises:
        TypeError, ValueError: an argument, or an input of other channels or dimensions; none or more than one layer
            with this kernel size made the input's voxels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        *,
        groups: int = 1,
        bias: bool = True,
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        options = dict(groups=groups, bias=bias, backend=backend, device=device, dtype=dtype)
        super().__init__(in_channels, out_channels, kernel_size, **options)

    def kernel_map(self, x: SparseTensor) -> KernelMap:
        check_input(self, x, channels=self.in_channels, dims=self.dims)
        return x.kernel_maps.that_made(x.topology, kernel_size=self.kernel_size, op=type(self).__name__).inverse


class SparseConvTranspose1d(SparseConvTranspose):
    """:class:`SparseConvTranspose` over coords (M, 2) ``[batch, x]``."""

    dims = 1


class SparseConvTranspose2d(SparseConvTranspose):
    """:class:`SparseConvTranspose` over coords (M, 3) ``[batch, x, y]``."""

    dims = 2


class SparseConvTranspose3d(SparseConvTranspose):
    """:class:`SparseConvTranspose` over coords (M, 4) ``[batch, x, y, z]``."""

    dims = 3


class SparseConvTranspose4d(SparseConvTranspose):
    """:class:`SparseConvTranspose` over coords (M, 5) ``[batch, x, y, z, t]``."""

    dims = 4


class SparseGenerativeConvTranspose1d(SparseGenerativeConvTranspose):
    """:class:`SparseGenerativeConvTranspose` over coords (M, 2) ``[batch, x]``."""

    dims = 1


class SparseGenerativeConvTranspose2d(SparseGenerativeConvTranspose):
    """:class:`SparseGenerativeConvTranspose` over coords (M, 3) ``[batch, x, y]``."""

    dims = 2


class SparseGenerativeConvTranspose3d(SparseGenerativeConvTranspose):
    """:class:`SparseGenerativeConvTranspose` over coords (M, 4) ``[batch, x, y, z]``."""

    dims = 3


class SparseGenerativeConvTranspose4d(SparseGenerativeConvTranspose):
    """:class:`SparseGenerativeConvTranspose` over coords (M, 5) ``[batch, x, y, z, t]``."""

    dims = 4


class SparseInverseConv1d(SparseInverseConv):
    """:class:`SparseInverseConv` over coords (M, 2) ``[batch, x]``."""

    dims = 1


class SparseInverseConv2d(SparseInverseConv):
    """:class:`SparseInverseConv` over coords (M, 3) ``[batch, x, y]``."""

    dims = 2


class SparseInverseConv3d(SparseInverseConv):
    """:class:`SparseInverseConv` over coords (M, 4) ``[batch, x, y, z]``."""

    dims = 3


class SparseInverseConv4d(SparseInverseConv):
    """:class:`SparseInverseConv` over coords (M, 5) ``[batch, x, y, z, t]``."""

    dims = 4
