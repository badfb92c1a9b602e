# SPDX-License-Identifier: Apache-2.0
"""Where a sparse or point tensor is, in which dtype, and whether autograd follows it."""

import torch
from torch import Tensor

from pcperc.sparse.kernel_map_cache import KernelMapCache
from pcperc.sparse.topology import Topology


class Placement:
    """``to`` and its short forms, ``clone``, ``detach``, ...; mixed into ``SparseTensor`` and ``PointTensor``."""

    def to(
        self,
        device: torch.device | str | int | torch.dtype | None = None,
        dtype: torch.dtype | None = None,
        *,
        non_blocking: bool = False,
    ):
        """Move to a device, cast the features, or both; as in torch, the first argument may be the dtype.

        On the same device the coordinates and the maps found for them are shared with this tensor. On another one the
        coordinates are copied and the maps are left behind: they are built there when a layer asks. So move the input
        of a network, not tensors between its layers, whose way back (SparseInverseConv3d) is lost by it.

        Returns:
            This tensor itself where nothing changes. Differentiable.
        Raises:
            TypeError: two dtypes. ValueError: a dtype that is not floating point.
        """
        if isinstance(device, torch.dtype):
            if dtype is not None:
                op = f"{type(self).__name__}.to"
                raise TypeError(f"{op}: device must be a device, got {device}, and dtype {dtype}")
            device, dtype = None, device
        feats = self.feats.to(device=device, dtype=dtype, non_blocking=non_blocking)
        coords = self.coords.to(device=device, non_blocking=non_blocking)
        if coords is self.coords:
            return self if feats is self.feats else self.replace(feats=feats)
        return self._with_moved(coords, feats)

    def _with_moved(self, coords: Tensor, feats: Tensor):
        lattice = (self.batch_size, self.spatial_shape, self.tensor_stride)
        known = dict(made_by_operator=self.topology.is_distinct, is_padded=self.topology.is_padded)
        topology = Topology(coords, *lattice, **known)
        return self.on_topology(topology, feats, KernelMapCache())

    def cuda(self, device: torch.device | int | None = None, *, non_blocking: bool = False):
        return self.to("cuda" if device is None else device, non_blocking=non_blocking)

    def cpu(self):
        return self.to("cpu")

    def pin_memory(self):
        """Copy into pinned memory, from which ``to(..., non_blocking=True)`` overlaps; torch's DataLoader calls it."""
        return self._with_moved(self.coords.pin_memory(), self.feats.pin_memory())

    def half(self):
        return self.to(torch.float16)

    def bfloat16(self):
        return self.to(torch.bfloat16)

    def float(self):
        return self.to(torch.float32)

    def double(self):
        return self.to(torch.float64)

    @property
    def device(self) -> torch.device:
        return self.feats.device

    @property
    def dtype(self) -> torch.dtype:
        return self.feats.dtype

    @property
    def is_cuda(self) -> bool:
        return self.feats.is_cuda

    @property
    def requires_grad(self) -> bool:
        """Whether autograd follows the features."""
        return self.feats.requires_grad

    def clone(self):
        """A copy of the features, on the same coordinates, which never change. Differentiable."""
        return self.replace(feats=self.feats.clone())

    def contiguous(self):
        """The features row by row in memory; this tensor itself where they are."""
        return self if self.feats.is_contiguous() else self.replace(feats=self.feats.contiguous())

    def detach(self):
        """The same features, cut off from the graph that made them."""
        return self.replace(feats=self.feats.detach())

    def requires_grad_(self, requires_grad: bool = True):
        """Have autograd record what happens to ``feats``, in place; returns this tensor."""
        self.feats.requires_grad_(requires_grad)
        return self
