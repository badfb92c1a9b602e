# SPDX-License-Identifier: Apache-2.0
"""Sparse convolutions of 1 to 4 dimensions, with torch's argument names and torch's meaning of them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcperc.nn import peer_backends
from pcperc.nn._checks import TellsArguments, check_dtype, check_input
from pcperc.nn._parts import own_parameter
from pcperc.ops._checks import positive_int, to_tuple
from pcperc.ops._layer_calls import layer_conv
from pcperc.ops.unique_coords import conv_output_shape
from pcperc.sparse import KernelMap, SparseTensor
from pcperc.sparse.topology import coarser

PerAxis = int | Sequence[int]  # one number for all axes or one each


class SparseConvBase(TellsArguments, nn.Module):
    """Parameters, checks and the call that all sparse convolutions share; a subclass says which kernel map it uses.

    ``weight`` is (*kernel_size, in_channels / groups, out_channels), for transposed layers too: the weight of
    ``torch.nn.Conv3d`` after ``permute(2, 3, 4, 1, 0)``; for one group, that of ``torch.nn.ConvTranspose3d`` after
    ``permute(2, 3, 4, 0, 1)``. ``bias`` is (out_channels,) or None. ``backend`` may be set at any time, for checks side
    by side: "spconv" and "torchsparse", where installed, then compute the layer; None is our own operator.
    """

    dims: int  # number of spatial axes D
    backends = peer_backends.BACKENDS  # those that have such a layer
    _shown: tuple[str, ...] = ("stride", "padding", "dilation")  # in repr, where they are not the default

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        *,
        stride: PerAxis = 1,
        padding: PerAxis = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        name = type(self).__name__
        peer_backends.check_backend(name, backend, self.backends)
        self.backend = backend
        in_channels = positive_int(name, "in_channels", in_channels)
        out_channels = positive_int(name, "out_channels", out_channels)
        groups = positive_int(name, "groups", groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"{name}: groups must divide {in_channels} and {out_channels} channels, got {groups}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = self._per_axis("kernel_size", kernel_size, low=1)
        self.stride = self._per_axis("stride", stride, low=1)
        self.padding = self._per_axis("padding", padding, low=0)
        self.dilation = self._per_axis("dilation", dilation, low=1)
        factory = dict(device=device, dtype=dtype)
        self.weight = nn.Parameter(torch.empty(*self.kernel_size, in_channels // groups, out_channels, **factory))
        self.bias = nn.Parameter(torch.empty(out_channels, **factory)) if bias else None
        self.reset_parameters()

    @classmethod
    def _per_axis(cls, argument: str, value: PerAxis, *, low: int) -> tuple[int, ...]:
        return to_tuple(cls.__name__, argument, value, cls.dims, low=low)

    def reset_parameters(self) -> None:
        """Draw weight and bias uniformly in +-1 / sqrt(in_channels / groups * taps), as torch.nn.Conv3d does."""
        bound = 1 / math.sqrt(self.weight[..., 0].numel())
        for parameter in self.parameters(recurse=False):
            nn.init.uniform_(parameter, -bound, bound)

    @property
    def geometry(self) -> dict[str, tuple[int, ...]]:
        """kernel_size, stride, padding and dilation: what a kernel map is found by."""
        return {
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
        }

    def kernel_map(self, x: SparseTensor) -> KernelMap:
        """Return the kernel map along which this layer convolves ``x``; raise where ``x`` does not fit."""
        raise NotImplementedError

    def forward(self, x: SparseTensor) -> SparseTensor:
        return self._convolve(x, self.kernel_map(x))

    def _convolve(self, x: SparseTensor, kernel_map: KernelMap) -> SparseTensor:
        feats = x.feats
        if self.backend is not None:
            feats = peer_backends.convolve(self, feats, kernel_map)
            return SparseTensor.on_topology(kernel_map.target, feats, x.kernel_maps)
        needs_both = torch.is_grad_enabled() and feats.requires_grad
        tables = kernel_map.convolution_tables(with_reverse=needs_both)
        try:
            feats = layer_conv(feats, self.tap_weights, *tables, own_parameter(self, "bias"), self.groups)
        except ValueError:
            check_dtype(self, x.feats)
            raise
        return SparseTensor.on_topology(kernel_map.target, feats, x.kernel_maps, check=False)

    @property
    def tap_weights(self) -> Tensor:
        """(K, in_channels / groups, out_channels): the weight with a row for each tap, last axis fastest."""
        weight = own_parameter(self, "weight")
        return weight if weight.ndim == 3 else weight.flatten(0, self.dims - 1)  # 3: of one axis, or fused

    def _check_target(self, x: SparseTensor, target: SparseTensor, *, tensor_stride: tuple) -> None:
        """Require a tensor of the same batch whose lattice has this spacing."""
        name = type(self).__name__
        if not isinstance(target, SparseTensor):
            raise TypeError(f"{name}: target must be a SparseTensor, got {type(target).__name__}")
        expected = {"spatial axes": self.dims, "batch_size": x.batch_size, "tensor_stride": tensor_stride}
        got = (target.topology.dims, target.batch_size, target.tensor_stride)
        for (what, wanted), found in zip(expected.items(), got, strict=True):
            if found != wanted:
                raise ValueError(f"{name}: target must have {what} {wanted}, got {found}")

    def _check_target_shape(self, target: SparseTensor, smallest: tuple[int, ...], largest: tuple[int, ...]) -> None:
        shape = target.spatial_shape
        if not all(low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=True)):
            sizes = f"{smallest}" if smallest == largest else f"from {smallest} to {largest}"
            raise ValueError(f"{type(self).__name__}: target must have spatial_shape {sizes}, got {shape}")

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        for name in self._shown:
            value, default = getattr(self, name), 0 if "padding" in name else 1
            text += f", {name}={value}" if any(v != default for v in value) else ""
        text += f", groups={self.groups}" if self.groups != 1 else ""
        text += "" if self.bias is not None else ", bias=False"
        return text if self.backend is None else text + f", backend={self.backend!r}"


class SubMConv(SparseConvBase):
    """Submanifold convolution: the output has exactly the voxels of the input, in the same order.

    Padding is dilation * (kernel_size - 1) // 2, torch's ``padding="same"``: on a tensor that is full everywhere the
    layer equals ``torch.nn.Conv3d`` with it. An even kernel reaches one voxel further up than down.

    Args:
        in_channels, out_channels: channels, >= 1.
        kernel_size, dilation: one number for all axes or one each.
        groups: divides both channels; each group of output channels sees its group of input channels alone.
        bias: whether to add a learned bias.
        backend: None, or the library that computes it instead, see ``SparseConvBase``.
        device, dtype: of the parameters, as in torch's layers.
    Shape: SparseTensor with (M, in_channels) features to one with (M, out_channels); M may be 0.
    Raises:
        TypeError, ValueError: an argument, or an input of other channels or dimensions; repeated coords.
    Source: Graham, Engelcke, van der Maaten, "3D Semantic Segmentation with Submanifold Sparse Convolutional Networks",
        CVPR 2018, section 3.
    """

    _shown = ("dilation",)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
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
        padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel_size, strict=True))
        options = dict(padding=padding, dilation=dilation, groups=groups, bias=bias, backend=backend)
        super().__init__(in_channels, out_channels, kernel_size, **options, device=device, dtype=dtype)

    def kernel_map(self, x: SparseTensor) -> KernelMap:
        check_input(self, x, channels=self.in_channels, dims=self.dims)
        voxels = x.topology
        return x.kernel_maps.between(
            voxels,
            voxels,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )


class SparseConv(SparseConvBase):
    """Convolution with an output voxel wherever an input voxel lies under the kernel; new voxels are sorted by key.

    The sizes follow ``torch.nn.Conv3d``: on a tensor that is full everywhere the two are equal. Kernels may be even.
    ``conv(x, target=y)`` gives the outputs at the voxels of ``y`` instead, in their order.

    Args:
        in_channels, out_channels: channels, >= 1.
        kernel_size, stride, padding, dilation: one number for all axes or one each.
        groups: divides both channels; each group of output channels sees its group of input channels alone.
        bias: whether to add a learned bias (to the output voxels only).
        backend: None, or the library that computes it instead, see ``SparseConvBase``.
        device, dtype: of the parameters, as in torch's layers.
    Shape: SparseTensor with (N, in_channels) features to one with (M, out_channels) and ``tensor_stride`` times stride;
        M may be 0. ``target``: SparseTensor of the same batch_size, on the lattice of the output.
    Raises:
        TypeError, ValueError: an argument, or an input of other channels or dimensions; a kernel larger than the padded
            ``spatial_shape``; a target on another lattice; repeated coords.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: PerAxis = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias, backend=backend)
        super().__init__(in_channels, out_channels, kernel_size, **options, device=device, dtype=dtype)

    def kernel_map(self, x: SparseTensor, target: SparseTensor | None = None) -> KernelMap:
        check_input(self, x, channels=self.in_channels, dims=self.dims)
        if target is None:
            return x.kernel_maps.downsampled(x.topology, **self.geometry, op=type(self).__name__)
        self._check_target(x, target, tensor_stride=coarser(x.tensor_stride, self.stride))
        if x.spatial_shape is not None and target.spatial_shape is not None:
            shape = conv_output_shape(x.spatial_shape, *self.geometry.values())
            self._check_target_shape(target, shape, shape)
        return x.kernel_maps.between(x.topology, target.topology, **self.geometry)

    def forward(self, x: SparseTensor, target: SparseTensor | None = None) -> SparseTensor:
        return self._convolve(x, self.kernel_map(x, target))


class SubMConv1d(SubMConv):
    """:class:`SubMConv` over coords (M, 2) ``[batch, x]``."""

    dims = 1


class SubMConv2d(SubMConv):
    """:class:`SubMConv` over coords (M, 3) ``[batch, x, y]``."""

    dims = 2


class SubMConv3d(SubMConv):
    """:class:`SubMConv` over coords (M, 4) ``[batch, x, y, z]``."""

    dims = 3


class SubMConv4d(SubMConv):
    """:class:`SubMConv` over coords (M, 5) ``[batch, x, y, z, t]``."""

    dims = 4


class SparseConv1d(SparseConv):
    """:class:`SparseConv` over coords (M, 2) ``[batch, x]``."""

    dims = 1


class SparseConv2d(SparseConv):
    """:class:`SparseConv` over coords (M, 3) ``[batch, x, y]``."""

    dims = 2


class SparseConv3d(SparseConv):
    """:class:`SparseConv` over coords (M, 4) ``[batch, x, y, z]``."""

    dims = 3


class SparseConv4d(SparseConv):
    """:class:`SparseConv` over coords (M, 5) ``[batch, x, y, z, t]``."""

    dims = 4
