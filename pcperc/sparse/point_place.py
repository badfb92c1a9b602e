# SPDX-License-Identifier: Apache-2.0
"""What is found out once about where points are, whatever features they carry."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from pcperc import ops
from pcperc.sparse.kernel_map import build_to_keep
from pcperc.sparse.kernel_map_cache import KernelMapCache
from pcperc.sparse.topology import Topology


class PointPlace:
    """Where points are, and what was found out about the voxels around them.

    Args:
        coords: (N, 1 + D) float; with capacities rows of batch index -1 are padding.
        points_per_cloud: where all clouds have as many, their rows one cloud after the other.
        capacities: for a pass over padding: the rows, padding included, of the voxels that hold points, at any spacing,
            and then those of each step down, see ``KernelMapCache``.
    """

    def __init__(
        self,
        coords: Tensor,
        batch_size: int,
        points_per_cloud: int | None = None,
        *,
        capacities: Sequence[int] | None = None,
    ):
        self.coords, self.batch_size, self.points_per_cloud = coords, batch_size, points_per_cloud
        self.kernel_maps = KernelMapCache(None if capacities is None else capacities[1:])
        self._capacities = capacities
        self._voxels: dict[tuple[int, ...], Topology] = {}
        self._segments: dict[Topology, ops.Segments] = {}
        self._plans: dict[tuple, ops.GatherPlan] = {}
        self._items: ops.Segments | None = None
        self._extents: dict[bool, ops.CloudExtents] = {}
        self._grids: dict[tuple[int, bool], ops.DenseGrid] = {}

    @property
    def items(self) -> ops.Segments:
        if self._items is None:
            self._items = build_to_keep(self._find_items)
        return self._items

    def _find_items(self) -> ops.Segments:
        if self.points_per_cloud is None:
            return ops.make_segments(self.coords[:, 0].int(), num_segments=self.batch_size)
        rows = torch.arange(self.coords.shape[0], dtype=torch.int32, device=self.coords.device)
        starts = torch.arange(self.batch_size + 1, dtype=torch.int32, device=rows.device) * self.points_per_cloud
        return ops.Segments(rows // self.points_per_cloud, rows, starts)

    def grid(self, resolution: int, normalize: bool) -> ops.DenseGrid:
        if (resolution, normalize) not in self._grids:
            self._grids[resolution, normalize] = build_to_keep(lambda: self._make_grid(resolution, normalize))
        return self._grids[resolution, normalize]

    def _make_grid(self, resolution: int, normalize: bool) -> ops.DenseGrid:
        xyz, options = self.coords[:, 1:].contiguous(), {"normalize": normalize}
        if normalize not in self._extents:
            self._extents[normalize] = ops.cloud_extents(xyz, self.items, **options)
        return ops.make_dense_grid(xyz, self.items, resolution=resolution, extents=self._extents[normalize], **options)

    def voxels(self, stride: tuple[int, ...]) -> Topology:
        if stride not in self._voxels:
            is_padded = self._capacities is not None
            capacity = self._capacity() if is_padded else None
            find = functools.partial(ops.unique_coords, self._cells(stride), capacity=capacity)
            coords, inverse, _, *incomplete = build_to_keep(find)
            self.kernel_maps.incomplete += incomplete
            topology = Topology(coords, self.batch_size, None, stride, made_by_operator=True, is_padded=is_padded)
            self._voxels[stride] = topology
            self._segments[topology] = build_to_keep(lambda: ops.make_segments(inverse, num_segments=coords.shape[0]))
        return self._voxels[stride]

    def _capacity(self) -> int:
        """Rows of the voxels that hold points, padding included."""
        if not self._capacities:
            raise ValueError("PointTensor.voxels: capacities must have one for the voxels that hold points, got none")
        return self._capacities[0]

    @property
    def most_voxels(self) -> int:
        """Of all spacings that :meth:`voxels` was asked for, the most rows; 0 without any."""
        return max((topology.coords.shape[0] for topology in self._voxels.values()), default=0)

    def segments(self, topology: Topology) -> ops.Segments:
        if topology not in self._segments:
            self._segments[topology] = build_to_keep(lambda: self._find_segments(topology))
        return self._segments[topology]

    def plan(self, topology: Topology, mode: str, quantized: bool) -> ops.GatherPlan:
        key = (topology, mode, quantized and mode == "trilinear")
        if key not in self._plans:
            find = self._trilinear_plan if mode == "trilinear" else self._nearest_plan
            self._plans[key] = build_to_keep(lambda: find(topology, quantized))
        return self._plans[key]

    def _cells(self, stride: tuple[int, ...]) -> Tensor:
        """(N, 1 + D) int32; of points that nobody checked some may be out of range, which the next operator names."""
        return ops.point_cells(self.coords, stride=stride, quantized=True, padding=False)

    def _find_segments(self, topology: Topology) -> ops.Segments:
        cells = self._cells(topology.tensor_stride)
        row = ops.build_kernel_map(topology.coords, cells, kernel_size=1, check=False)[0]
        return ops.make_segments(row, num_segments=topology.coords.shape[0])

    def _nearest_plan(self, topology: Topology, quantized: bool) -> ops.GatherPlan:
        rows = self.segments(topology).index.unsqueeze(1)
        return ops.GatherPlan(rows, torch.ones_like(rows, dtype=torch.float32), topology.coords.shape[0])

    def _trilinear_plan(self, topology: Topology, quantized: bool) -> ops.GatherPlan:
        read = dict(stride=topology.tensor_stride, shift=0.0 if quantized else 0.5, quantized=quantized)
        return ops.make_interpolation_plan(topology.coords, self.coords, renormalize=True, check=False, **read)
