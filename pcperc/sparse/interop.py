# SPDX-License-Identifier: Apache-2.0
"""Sparse tensors of other libraries. Those libraries are imported when asked for, never needed."""

import importlib
from types import ModuleType
from typing import Any

from torch import Tensor

from pcperc.sparse._checks import check_not_padded


class Interop:
    """Conversions from and to spconv and torchsparse, by duck typing; mixed into ``SparseTensor``.

    Features and coordinates are shared where no copy is needed. Kernel maps are not taken along.
    """

    @classmethod
    def from_spconv(cls, tensor: Any, *, reverse_axes: bool = False):
        """Take over a ``spconv.SparseConvTensor``, of spconv 1 or 2.

        Args:
            tensor: anything with ``features`` (M, C), ``indices`` (M, 1 + D) int32, ``spatial_shape`` and
                ``batch_size``.
            reverse_axes: turn spconv's usual ``[batch, z, y, x]`` into ``[batch, x, y, z]``, ``spatial_shape`` too;
                weights then need it as well (``pcperc.convert``). False keeps the axes, whatever they are called.
        Raises:
            TypeError: not such a tensor. ValueError: as the constructor.
        """
        _check_attributes("SparseTensor.from_spconv", tensor, "features", "indices", "spatial_shape", "batch_size")
        coords, shape = tensor.indices, tuple(int(size) for size in tensor.spatial_shape)
        if reverse_axes:
            coords, shape = _reverse(coords), shape[::-1]
        return cls(coords, tensor.features, int(tensor.batch_size), spatial_shape=shape)

    def to_spconv(self, *, reverse_axes: bool = False) -> Any:
        """Make a ``spconv.pytorch.SparseConvTensor``; ``tensor_stride`` is lost, spconv has none.

        Args:
            reverse_axes: write ``[batch, z, y, x]``.
        Raises:
            ImportError: spconv is not installed.
            ValueError: the lattice is unbounded, spconv needs a ``spatial_shape``; or there is padding.
        """
        check_not_padded("SparseTensor.to_spconv", self.topology)
        spconv = _peer("SparseTensor.to_spconv", "spconv.pytorch")
        if self.spatial_shape is None:
            raise ValueError("SparseTensor.to_spconv: needs a spatial_shape, got an unbounded lattice")
        coords, shape = self.coords, self.spatial_shape
        if reverse_axes:
            coords, shape = _reverse(coords), shape[::-1]
        return spconv.SparseConvTensor(self.feats, coords, list(shape), self.batch_size)

    @classmethod
    def from_torchsparse(cls, tensor: Any):
        """Take over a ``torchsparse.SparseTensor`` of torchsparse 2.1, whose coordinates are ``[batch, x, y, z]``.

        torchsparse 1.4 and 2.0 put the batch last and count strided coordinates in cells of the input: for these use
        ``SparseTensor(coords[:, [3, 0, 1, 2]] // [1, stride, stride, stride], feats, tensor_stride=stride)``.

        Args:
            tensor: anything with ``feats`` (M, C), ``coords`` (M, 4) int32, ``stride`` and, or None, ``spatial_range``
                (batch_size, X, Y, Z).
        Raises:
            TypeError: not such a tensor. ValueError: as the constructor.
        """
        _check_attributes("SparseTensor.from_torchsparse", tensor, "feats", "coords", "stride", "spatial_range")
        batch_size, shape = None, None
        if tensor.spatial_range is not None:
            batch_size, *shape = (int(size) for size in tensor.spatial_range)
        stride = tuple(int(s) for s in tensor.stride)
        return cls(tensor.coords, tensor.feats, batch_size, spatial_shape=shape, tensor_stride=stride)

    def to_torchsparse(self) -> Any:
        """Make a ``torchsparse.SparseTensor`` of torchsparse 2.1.

        Raises:
            ImportError: torchsparse is not installed.
            ValueError: other than three spatial axes, a ``tensor_stride`` that is no whole number, or padding.
        """
        check_not_padded("SparseTensor.to_torchsparse", self.topology)
        torchsparse = _peer("SparseTensor.to_torchsparse", "torchsparse")
        if self.dims != 3:
            raise ValueError(f"SparseTensor.to_torchsparse: needs three spatial axes, got {self.dims}")
        if any(stride != int(stride) for stride in self.tensor_stride):
            raise ValueError(
                f"SparseTensor.to_torchsparse: needs a whole tensor_stride, got {tuple(map(str, self.tensor_stride))}"
            )
        spatial_range = None if self.spatial_shape is None else (self.batch_size, *self.spatial_shape)
        stride = tuple(int(s) for s in self.tensor_stride)
        return torchsparse.SparseTensor(
            feats=self.feats, coords=self.coords, stride=stride, spatial_range=spatial_range
        )


def _reverse(coords: Tensor) -> Tensor:
    """[batch, a, b, c] -> [batch, c, b, a]."""
    order = [0, *range(coords.shape[1] - 1, 0, -1)]
    return coords[:, order]


def _check_attributes(op: str, tensor: Any, *names: str) -> None:
    missing = [name for name in names if not hasattr(tensor, name)]
    if missing:
        raise TypeError(
            f"{op}: tensor must have {', '.join(names)}, got {type(tensor).__name__} without {', '.join(missing)}"
        )


def _peer(op: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{op}: needs {name.partition('.')[0]}, which is not installed ({error})") from error
