# SPDX-License-Identifier: Apache-2.0
"""The clouds of a batch, one by one."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from pcperc.ops._checks import plain
from pcperc.sparse.kernel_map_cache import KernelMapCache
from pcperc.sparse.topology import Topology


class BatchItems:
    """Indexing, slicing and iteration over the clouds of a batch; mixed into ``SparseTensor``.

    Items keep the order of their rows and have kernel maps of their own. Padding belongs to no item. Differentiable in
    the features.
    """

    def __getitem__(self, index: int | slice):
        """``x[2]``: the third cloud, with batch_size 1. ``x[1:3]``: a batch of the second and third.

        Raises:
            IndexError: no such cloud.
            TypeError: neither a whole number nor a slice.
        """
        index = plain(index)
        if isinstance(index, slice):
            items = list(range(self.batch_size))[index]
        elif isinstance(index, int) and not isinstance(index, bool):
            if not -self.batch_size <= index < self.batch_size:
                raise IndexError(f"SparseTensor: index must be a cloud of the batch of {self.batch_size}, got {index}")
            items = [index % self.batch_size]
        else:
            raise TypeError(f"SparseTensor: index must be a whole number or a slice, got {type(index).__name__}")
        new_index = torch.full((self.batch_size + 1,), -1, dtype=torch.int32)  # the last one is that of padding
        new_index[items] = torch.arange(len(items), dtype=torch.int32)
        batch = new_index.to(self.device)[self.coords[:, 0].long()]
        rows = (batch >= 0).nonzero().squeeze(1)
        return self._item(rows, batch[rows], len(items))

    def unbind(self) -> list:
        """All clouds of the batch, each with batch_size 1; ``collate`` puts them together again."""
        segments = self.kernel_maps.batch_segments(self.topology)
        bounds = pairwise(segments.starts.tolist())  # padding stands before the first
        parts = (segments.order[start:end] for start, end in bounds)
        return [self._item(rows, torch.zeros_like(rows), 1) for rows in parts]

    def __iter__(self) -> Iterator:
        return iter(self.unbind())

    def _item(self, rows: Tensor, batch: Tensor, batch_size: int):
        coords = torch.cat([batch.unsqueeze(1), self.coords[rows, 1:]], 1)
        lattice = (batch_size, self.spatial_shape, self.tensor_stride)
        topology = Topology(coords, *lattice, made_by_operator=self.topology.is_distinct)
        return self.on_topology(topology, self.feats[rows], KernelMapCache())
