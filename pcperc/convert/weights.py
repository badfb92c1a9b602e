# SPDX-License-Identifier: Apache-2.0
"""One convolution weight in the layout and tap order of another library, in ours."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pcperc.ops._checks import check_tensor, describe, to_tuple


def convert_weight(
    weight: Tensor,
    *,
    source: str,
    kernel_size: Sequence[int],
    stride: int | Sequence[int] | None = None,
    reverse_axes: bool = False,
) -> Tensor:
    """Reorder a weight to that of ``pcperc.nn``: (*kernel_size, in_channels, out_channels), x slowest, z fastest.

    Every library here multiplies tap by tap without turning the kernel round, so only the layout changes:

    - ``spconv1``: (*kernel_size, in, out).
    - ``spconv2``: (out, *kernel_size, in). A layer of one tap and stride 1 is a plain matrix product in spconv 2, which
      reads the memory of this weight as (in, out); it is taken so.
    - ``torchsparse``: (K, in, out), or (in, out) for one tap. x is fastest where K is odd, z where K is even.
    - ``minkowski``: (K, in, out), or (in, out) for one tap; (K, channels) of a channelwise convolution. x is fastest.

    Args:
        weight: tensor of one of these shapes; any dtype.
        source: one of :data:`SOURCES`.
        kernel_size: taps along each axis of our coordinates.
        stride: of the layer, 1 where None; it matters for spconv2 with one tap.
        reverse_axes: the weight was trained on coordinates in the other order, as spconv's ``[batch, z, y, x]``.
    Returns:
        (*kernel_size, in_channels, out_channels), a copy. Channelwise: (*kernel_size, 1, channels), for
        ``groups=channels``.
    Raises:
        TypeError: weight is no tensor, or kernel_size not a number for each axis.
        ValueError: an unknown source, or a weight of another shape.
    Source: spconv 1.2.1 and 2.3.8, torchsparse 1.4 and 2.1 (its own test compares odd and even kernels with
        torch.nn.Conv3d), MinkowskiEngine 0.5 (kernel_region).
    """
    check_tensor("convert_weight", "weight", weight)
    if source not in _LAYOUTS:
        raise ValueError(f"convert_weight: source must be one of {', '.join(SOURCES)}, got {source!r}")
    if not isinstance(kernel_size, Sequence):  # how many axes one number stands for is not known here
        raise TypeError(f"convert_weight: kernel_size must be a whole number for each axis, got {kernel_size!r}")
    taps = to_tuple("convert_weight", "kernel_size", kernel_size, len(kernel_size), low=1)
    strides = to_tuple("convert_weight", "stride", 1 if stride is None else stride, len(taps), low=1)
    if reverse_axes:
        taps = taps[::-1]
    is_pointwise = math.prod(taps) == 1 and math.prod(strides) == 1
    ours = _LAYOUTS[source](weight, taps, is_pointwise)
    if reverse_axes:
        ours = ours.permute(*range(len(taps) - 1, -1, -1), -2, -1)
    return ours.clone(memory_format=torch.contiguous_format)


def _from_spconv1(weight: Tensor, taps: tuple[int, ...], is_pointwise: bool) -> Tensor:
    _check_shape(weight, f"({_text(taps)}, in, out)", weight.ndim == len(taps) + 2 and weight.shape[:-2] == taps)
    return weight


def _from_spconv2(weight: Tensor, taps: tuple[int, ...], is_pointwise: bool) -> Tensor:
    _check_shape(weight, f"(out, {_text(taps)}, in)", weight.ndim == len(taps) + 2 and weight.shape[1:-1] == taps)
    if is_pointwise:
        return weight.reshape(*taps, weight.shape[-1], weight.shape[0])
    return weight.movedim(0, -1)


def _from_torchsparse(weight: Tensor, taps: tuple[int, ...], is_pointwise: bool) -> Tensor:
    weight = _with_taps(weight, taps)
    if math.prod(taps) % 2:
        return _unflatten_first_axis_fastest(weight, taps)
    return weight.unflatten(0, taps)


def _from_minkowski(weight: Tensor, taps: tuple[int, ...], is_pointwise: bool) -> Tensor:
    if weight.ndim == 2 and len(weight) == math.prod(taps) > 1:  # channelwise: each channel sees itself alone
        weight = weight.unsqueeze(1)
    return _unflatten_first_axis_fastest(_with_taps(weight, taps), taps)


def _with_taps(weight: Tensor, taps: tuple[int, ...]) -> Tensor:
    """Give a weight of one tap, (in, out), its tap axis."""
    count = math.prod(taps)
    if weight.ndim == 2 and count == 1:
        weight = weight.unsqueeze(0)
    _check_shape(weight, f"({count}, in, out)", weight.ndim == 3 and len(weight) == count)
    return weight


def _unflatten_first_axis_fastest(weight: Tensor, taps: tuple[int, ...]) -> Tensor:
    return weight.unflatten(0, taps[::-1]).permute(*range(len(taps) - 1, -1, -1), -2, -1)


def _check_shape(weight: Tensor, expected: str, fits: bool) -> None:
    if not fits:
        raise ValueError(f"convert_weight: weight must be {expected}, got {describe(weight)}")


def _text(taps: tuple[int, ...]) -> str:
    return ", ".join(map(str, taps))


_LAYOUTS = {
    "spconv1": _from_spconv1,
    "spconv2": _from_spconv2,
    "torchsparse": _from_torchsparse,
    "minkowski": _from_minkowski,
}
SOURCES = tuple(_LAYOUTS)
