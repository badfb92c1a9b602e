# SPDX-License-Identifier: Apache-2.0
"""What every layer asks of its arguments and its input."""

import inspect
from typing import TypeVar

from torch import nn

from pcperc.sparse import PointTensor, SparseTensor

Rows = TypeVar("Rows", SparseTensor, PointTensor)  # what a layer takes to which rows are all that counts


class TellsArguments:
    """A layer that answers an argument which it has not with those that it has.

    People who come from another library give names of that library. They are checked here, before ``__init__``, so that
    its signature stays what it is.
    """

    def __new__(cls, *args, **kwargs):
        signature = inspect.signature(cls.__init__)
        try:
            signature.bind_partial(None, *args, **kwargs)  # partial: a copy is made without arguments
        except TypeError as error:
            _, *own = (p.replace(annotation=p.empty) for p in signature.parameters.values())
            raise TypeError(
                f"{cls.__name__}: {error}; its arguments are {inspect.Signature(own)}. "
                "docs/migrate.md says what other libraries' arguments become"
            ) from None
        return super().__new__(cls)


def check_input(layer: nn.Module, x: object, *, channels: int | None = None, dims: int | None = None) -> None:
    """Require a sparse tensor with as many channels and spatial axes, where these are given.

    Raises:
        TypeError: another type. ValueError: other channels or axes; the messages begin with the layer's class.
    """
    if not isinstance(x, SparseTensor):
        raise TypeError(f"{type(layer).__name__}: input must be a SparseTensor, got {type(x).__name__}")
    if dims is not None and x.coords.shape[1] != 1 + dims:
        raise ValueError(f"{type(layer).__name__}: input must have {dims} spatial axes, got {x.dims}")
    if channels is not None and x.feats.shape[1] != channels:
        raise ValueError(f"{type(layer).__name__}: input must have {channels} channels, got {x.num_channels}")


def check_rows(layer: nn.Module, x: object, *, channels: int | None = None) -> None:
    """Require a sparse or point tensor, for a layer to which rows are all that counts.

    Raises:
        TypeError: another type. ValueError: other channels; the messages begin with the layer's class.
    """
    if not isinstance(x, PointTensor):
        check_input(layer, x, channels=channels)
    elif channels is not None and x.num_channels != channels:
        raise ValueError(f"{type(layer).__name__}: input must have {channels} channels, got {x.num_channels}")


def check_points(op: str, points: object) -> None:
    """Require points.

    Raises:
        TypeError: another type; the message begins with ``op``.
    """
    if not isinstance(points, PointTensor):
        raise TypeError(f"{op}: points must be a PointTensor, got {type(points).__name__}")
