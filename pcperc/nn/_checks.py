# SPDX-License-Identifier: Apache-2.0
"""What every layer asks of its arguments and its input."""

import functools
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pcperc.ops._conv_arguments import HALF_DTYPES, is_autocast
from pcperc.sparse import PointTensor, SparseTensor
from pcperc.sparse.arguments import check_call

Rows = TypeVar("Rows", SparseTensor, PointTensor)  # what a layer takes to which rows are all that counts
_CASTS = {torch.float16: "half", torch.bfloat16: "bfloat16", torch.float32: "float", torch.float64: "double"}


class TellsArguments:
    """A layer that answers arguments that do not fit it with those that it has, beginning with its own name.

    People who come from other libraries give names of theirs. ``advice`` ends the message. A layer of a user's own that
    is derived from one of these answers so too.
    """

    advice = "docs/migrate.md says what other libraries' arguments become"

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if not hasattr(cls.__init__, "_tells_arguments"):
            cls.__init__ = _telling(cls.__init__)


def _telling(init: Callable) -> Callable:
    """Wrap an ``__init__``: Python's own error would name the class that defines it, not the layer that was meant."""

    @functools.wraps(init)
    def telling(layer: nn.Module, /, *args, **kwargs) -> None:
        try:
            init(layer, *args, **kwargs)
        except TypeError:
            advice = f"its arguments are {{arguments}}. {layer.advice}"
            check_call(type(layer).__name__, init.__get__(layer), args, kwargs, advice)
            raise

    telling._tells_arguments = True
    return telling


def check_input(layer: nn.Module, x: object, *, channels: int | None = None, dims: int | None = None) -> None:
    """Require a sparse tensor with as many channels and spatial axes, where these are given.

    Raises:
        TypeError: another type. ValueError: other channels or axes; the messages begin with the layer's class.
    """
    if not isinstance(x, SparseTensor):
        raise TypeError(f"{type(layer).__name__}: input must be a SparseTensor, got {type(x).__name__}")
    if dims is not None and x.coords.shape[1] != 1 + dims:
        column = "the batch index before x? torch.nn.functional.pad(coords, (1, 0)) puts that of one cloud there"
        advice = f"; are coords (M, {1 + dims}), {column}" if x.dims == dims - 1 else ""
        raise ValueError(f"{type(layer).__name__}: input must have {dims} spatial axes, got {x.dims}{advice}")
    if channels is not None and x.feats.shape[1] != channels:
        raise ValueError(f"{type(layer).__name__}: input must have {channels} channels, got {x.num_channels}")


def check_dtype(layer: nn.Module, feats: Tensor) -> None:
    """Name a layer in another dtype than its input, which its operator refused. Not asked before: that would cost time.

    Raises:
        ValueError: the two do not go together. Under autocast, where dtypes of operators differ, nothing is said.
    """
    own = next((t.dtype for t in (*layer.parameters(), *layer.buffers()) if t.is_floating_point()), None)
    got = feats.dtype
    # Convolutions and batch norms take such rows, and so refused something else; torch's other layers do not.
    is_mixed = own == torch.float32 and got in HALF_DTYPES and isinstance(layer, TellsArguments | _BatchNorm)
    if own in (None, got) or got not in _CASTS or is_mixed or is_autocast(feats):
        return
    other = "a float32 layer under torch.autocast" if own in HALF_DTYPES else f"layer.{_CASTS[got]}()"
    own_name, got_name = (str(dtype).removeprefix("torch.") for dtype in (own, got))
    raise ValueError(
        f"{type(layer).__name__}: input must be {own_name} like the layer's parameters, got {got_name}; "
        f"use x.{_CASTS[own]}(), or {other}"
    )


def check_rows(layer: nn.Module, x: object, *, channels: int | None = None) -> None:
    """Require a sparse or point tensor, for a layer to which rows are all that counts.

    Raises:
        TypeError: another type. ValueError: other channels; the messages begin with the layer's class.
    """
    if isinstance(x, SparseTensor):
        check_input(layer, x, channels=channels)
    elif not isinstance(x, PointTensor):
        found = type(x).__name__
        raise TypeError(f"{type(layer).__name__}: input must be a SparseTensor or a PointTensor, got {found}")
    elif channels is not None and x.num_channels != channels:
        raise ValueError(f"{type(layer).__name__}: input must have {channels} channels, got {x.num_channels}")


def check_points(op: str, points: object) -> None:
    """Require points.

    Raises:
        TypeError: another type; the message begins with ``op``.
    """
    if not isinstance(points, PointTensor):
        raise TypeError(f"{op}: points must be a PointTensor, got {type(points).__name__}")


def has_hooks(module: nn.Module) -> bool:
    """Whether someone wants to be told of the module's calls, so that they must be made."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
