# SPDX-License-Identifier: Apache-2.0
"""Sparse convolutions, with torch's argument names and torch's meaning of them."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from pcperc import ops
from pcperc.ops._checks import to_triple
from pcperc.sparse import KernelMap, SparseTensor, Topology


class _SparseConv(nn.Module):
    """Parameters and the call that all sparse convolutions share.

    ``weight`` is (*kernel_size, in_channels, out_channels): the weight of ``torch.nn.Conv3d`` after
    ``permute(2, 3, 4, 1, 0)``, that of ``torch.nn.ConvTranspose3d`` after ``permute(2, 3, 4, 0, 1)``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        bias: bool = True,
    ):
        super().__init__()
        name = type(self).__name__
        if min(in_channels, out_channels) < 1:
            raise ValueError(f"{name}: channels must be >= 1, got {in_channels} and {out_channels}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = to_triple(name, "kernel_size", kernel_size, low=1)
        self.stride = to_triple(name, "stride", stride, low=1)
        self.padding = to_triple(name, "padding", padding, low=0)
        self.dilation = to_triple(name, "dilation", dilation, low=1)
        self.weight = nn.Parameter(torch.empty(*self.kernel_size, in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias uniformly in +-1 / sqrt(fan_in), as torch.nn.Conv3d does."""
        bound = 1 / math.sqrt(self.in_channels * math.prod(self.kernel_size))
        for parameter in self.parameters(recurse=False):
            nn.init.uniform_(parameter, -bound, bound)

    def _convolve(
        self, x: SparseTensor, kernel_map: KernelMap, target: Topology, *, is_inverse: bool = False
    ) -> SparseTensor:
        needs_both = torch.is_grad_enabled() and x.feats.requires_grad
        forward = kernel_map.reverse_neighbors if is_inverse else kernel_map.neighbors
        backward = (kernel_map.neighbors if is_inverse else kernel_map.reverse_neighbors) if needs_both else None
        feats = ops.sparse_conv(x.feats, self.weight.flatten(0, 2), forward, backward, self.bias)
        return SparseTensor.on_topology(target, feats, x.kernel_maps)

    def _check_input(self, x: SparseTensor) -> None:
        name = type(self).__name__
        if not isinstance(x, SparseTensor):
            raise TypeError(f"{name}: input must be a SparseTensor, got {type(x).__name__}")
        if x.feats.shape[1] != self.in_channels:
            raise ValueError(f"{name}: input must have {self.in_channels} channels, got {x.feats.shape[1]}")

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        defaults = {"stride": (1, 1, 1), "padding": (0, 0, 0), "dilation": (1, 1, 1)}
        text += "".join(f", {k}={getattr(self, k)}" for k, v in defaults.items() if getattr(self, k) != v)
        return text if self.bias is not None else text + ", bias=False"


class SubMConv3d(_SparseConv):
    """Submanifold convolution: the output has exactly the voxels of the input, in the same order.

    Padding is dilation * (kernel_size - 1) / 2, so kernel_size must be odd where dilation is. On a tensor that is full
    everywhere it equals ``torch.nn.Conv3d`` with that padding.

    Args:
        in_channels, out_channels: channels, >= 1.
        kernel_size, dilation: one number for all axes or three.
        bias: whether to add a learned bias.
    Shape: SparseTensor with (M, in_channels) features to one with (M, out_channels); M may be 0.
    Raises:
        ValueError: dilation * (kernel_size - 1) is odd on some axis; an input with other channels; repeated coords.
    Source: Graham, Engelcke, van der Maaten, "3D Semantic Segmentation with Submanifold Sparse Convolutional Networks",
        CVPR 2018, section 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *,
        dilation: int | Sequence[int] = 1,
        bias: bool = True,
    ):
        kernel = to_triple("SubMConv3d", "kernel_size", kernel_size, low=1)
        spread = [
            d * (k - 1) for d, k in zip(to_triple("SubMConv3d", "dilation", dilation, low=1), kernel, strict=True)
        ]
        if any(s % 2 for s in spread):
            raise ValueError(f"SubMConv3d: kernel_size must be odd, got {kernel_size} with dilation {dilation}")
        padding = tuple(s // 2 for s in spread)
        super().__init__(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=bias)

    def forward(self, x: SparseTensor) -> SparseTensor:
        self._check_input(x)
        kernel_map = x.kernel_maps.between(x.topology, x.topology, **_parameters(self))
        return self._convolve(x, kernel_map, x.topology)


class SparseConv3d(_SparseConv):
    """Convolution with an output voxel wherever an input voxel lies under the kernel; new voxels are sorted by key.

    The sizes follow ``torch.nn.Conv3d``: on a tensor that is full everywhere the two are equal. Kernels may be even.

    Args:
        in_channels, out_channels: channels, >= 1.
        kernel_size, stride, padding, dilation: one number for all axes or three.
        bias: whether to add a learned bias (to the output voxels only).
    Shape: SparseTensor with (N, in_channels) features to one with (M, out_channels) and ``tensor_stride`` times stride;
        M may be 0.
    Raises:
        ValueError: an input with other channels; a kernel larger than the padded ``spatial_shape``; repeated coords.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        bias: bool = True,
    ):
        super().__init__(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, dilation=dilation, bias=bias
        )

    def forward(self, x: SparseTensor) -> SparseTensor:
        self._check_input(x)
        kernel_map = x.kernel_maps.downsampled(x.topology, **_parameters(self))
        return self._convolve(x, kernel_map, kernel_map.target)


class SparseInverseConv3d(_SparseConv):
    """Go back to the voxels that the convolution which made the input's voxels started from.

    It is the transposed convolution along the same kernel map: on tensors that are full everywhere it equals
    ``torch.nn.ConvTranspose3d`` with the stride, padding and dilation of that convolution (and the ``output_padding``
    that gives back its input size). The map is found through the tensor; no name is needed.

    Args:
        in_channels, out_channels: channels, >= 1.
        kernel_size: that of the convolution to undo.
        bias: whether to add a learned bias.
    Shape: SparseTensor with (M, in_channels) features to one with (N, out_channels).
    Raises:
        ValueError: none or more than one convolution with this kernel size made the input's voxels.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int], bias: bool = True):
        super().__init__(in_channels, out_channels, kernel_size, bias=bias)

    def forward(self, x: SparseTensor) -> SparseTensor:
        self._check_input(x)
        kernel_map = x.kernel_maps.that_made(x.topology, kernel_size=self.kernel_size)
        return self._convolve(x, kernel_map, kernel_map.source, is_inverse=True)


def _parameters(conv: _SparseConv) -> dict[str, tuple[int, int, int]]:
    names = ("kernel_size", "stride", "padding", "dilation")
    return {name: getattr(conv, name) for name in names}
