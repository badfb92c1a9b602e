# SPDX-License-Identifier: Apache-2.0
"""What every layer asks of its input."""

from torch import nn

from pcperc.sparse import SparseTensor


def check_input(layer: nn.Module, x: object, *, channels: int | None = None, dims: int | None = None) -> None:
    """Require a sparse tensor with as many channels and spatial axes, where these are given.

    Raises:
        TypeError: another type. ValueError: other channels or axes; the messages begin with the layer's class.
    """
    name = type(layer).__name__
    if not isinstance(x, SparseTensor):
        raise TypeError(f"{name}: input must be a SparseTensor, got {type(x).__name__}")
    if dims is not None and x.topology.dims != dims:
        raise ValueError(f"{name}: input must have {dims} spatial axes, got {x.topology.dims}")
    if channels is not None and x.feats.shape[1] != channels:
        raise ValueError(f"{name}: input must have {channels} channels, got {x.feats.shape[1]}")
