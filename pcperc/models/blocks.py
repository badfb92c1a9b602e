# SPDX-License-Identifier: Apache-2.0
"""Small dense building blocks that several models share."""

from collections import OrderedDict

from torch import nn


class ConvNormReLU(nn.Sequential):
    """2D convolution, batch norm, ReLU, as the submodules ``conv``, ``norm`` and ``relu``.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side of the square kernel.
        stride: step of the kernel.
        padding: zeros added on each side; None keeps the size at stride 1 (odd kernels only).
        dilation: spacing of the kernel's taps.
        bias: whether the convolution has its own bias, which the norm makes redundant.
        eps, momentum: of the batch norm.

    Raises:
        ValueError: an even kernel without an explicit padding.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | None = None,
        *,
        dilation: int = 1,
        bias: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ):
        if padding is None:
            if kernel_size % 2 == 0:
                raise ValueError(f"ConvNormReLU: padding must be given for an even kernel_size, got {kernel_size}")
            padding = dilation * (kernel_size - 1) // 2
        conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, dilation=dilation, bias=bias
        )
        norm = nn.BatchNorm2d(out_channels, eps=eps, momentum=momentum)
        super().__init__(OrderedDict(conv=conv, norm=norm, relu=nn.ReLU(inplace=True)))
