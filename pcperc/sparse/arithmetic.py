# SPDX-License-Identifier: Apache-2.0
"""Arithmetic on the features of sparse tensors with the same voxels."""

import operator
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from pcperc.ops._checks import check_same_device, describe
from pcperc.sparse._checks import check_same_voxels


class Arithmetic:
    """``+ - * /`` with numbers, (C,) tensors and sparse tensors, and unary minus; mixed into ``SparseTensor``.

    A (C,) tensor acts on the channels. A sparse tensor must have the same voxels in the same order (where the two do
    not share a topology they are compared, a wait for the GPU) and as many channels, or one of the two a
    single channel. The result is on the topology of the left sparse tensor, in torch's promoted dtype. Differentiable.
    """

    __array_ufunc__ = None  # a NumPy number on the left leaves the work to us, instead of iterating over the batch

    def __add__(self, other):
        return _combine(operator.add, "+", self, other)

    def __radd__(self, other):
        return _combine(operator.add, "+", self, other, swapped=True)

    def __sub__(self, other):
        return _combine(operator.sub, "-", self, other)

    def __rsub__(self, other):
        return _combine(operator.sub, "-", self, other, swapped=True)

    def __mul__(self, other):
        return _combine(operator.mul, "*", self, other)

    def __rmul__(self, other):
        return _combine(operator.mul, "*", self, other, swapped=True)

    def __truediv__(self, other):
        return _combine(operator.truediv, "/", self, other)

    def __rtruediv__(self, other):
        return _combine(operator.truediv, "/", self, other, swapped=True)

    def __neg__(self):
        return self.replace(feats=-self.feats)


def _combine(function: Callable, symbol: str, x: Arithmetic, other: Any, *, swapped: bool = False) -> Any:
    op = f"SparseTensor {symbol}"
    if isinstance(other, Arithmetic):
        _check_operands(op, x, other)
        value = other.feats
    elif isinstance(other, Tensor):
        _check_channels(op, x, other)
        value = other
    elif isinstance(other, Real):
        value = float(other)
    elif isinstance(other, torch.SymInt | torch.SymFloat):
        value = other
    else:
        return NotImplemented  # Python then raises its TypeError, with both types
    return x.replace(feats=function(value, x.feats) if swapped else function(x.feats, value))


def _check_operands(op: str, x: Arithmetic, other: Arithmetic) -> None:
    check_same_voxels(op, x.topology, other.topology, advice="pcperc.union adds over the voxels of both")
    if x.num_channels != other.num_channels and 1 not in (x.num_channels, other.num_channels):
        raise ValueError(
            f"{op}: operands must have as many channels, or one of them a single one, "
            f"got {x.num_channels} and {other.num_channels}"
        )


def _check_channels(op: str, x: Arithmetic, other: Tensor) -> None:
    if other.shape not in ((), (x.num_channels,)):
        raise ValueError(
            f"{op}: a tensor must be one number or ({x.num_channels},), one for each channel, got {describe(other)}; "
            f"replace(feats=...) takes values for each voxel"
        )
    if other.ndim:
        check_same_device(op, feats=x.feats, operand=other)
