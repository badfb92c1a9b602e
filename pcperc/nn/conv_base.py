# SPDX-License-Identifier: Apache-2.0
"""What all sparse convolutions share: parameters, checks, and the call along a kernel map."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcperc.nn import peer_backends
from pcperc.nn._checks import TellsArguments, check_dtype
from pcperc.nn._parts import own_parameter
from pcperc.ops._checks import positive_int, to_tuple
from pcperc.ops._layer_calls import layer_conv
from pcperc.sparse import KernelMap, SparseTensor

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
