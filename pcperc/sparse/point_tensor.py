# SPDX-License-Identifier: Apache-2.0
"""Features of points that need not lie on a lattice, and what connects them to the voxels around them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcperc import ops
from pcperc.foreign_names import ATTRIBUTES_OF_ROWS
from pcperc.ops._checks import (
    check_choice,
    check_tensor,
    describe,
    in_key_range,
    positive_int,
    to_tuple,
)
from pcperc.sparse._checks import batch_advice, check_batch_size, check_feats
from pcperc.sparse.arguments import NEW_POINTS, REPLACE_OF_POINTS, refuse_call, tells_arguments
from pcperc.sparse.hints import Hints
from pcperc.sparse.kernel_map_cache import KernelMapCache
from pcperc.sparse.placement import Placement
from pcperc.sparse.point_place import PointPlace
from pcperc.sparse.topology import Topology

DEVOXELIZATIONS = ("trilinear", "nearest")


class PointTensor(Placement, Hints, foreign=ATTRIBUTES_OF_ROWS):
    """Features of the points of a batch of clouds. The points never change; features change by :meth:`replace`.

    A point lies in the voxel ``floor(xyz / tensor_stride)``, whose middle is ``(index + 0.5) * tensor_stride``. What is
    found out about the voxels of the points is kept and shared by all tensors that :meth:`replace` makes.

    Args:
        coords: (N, 1 + D) float32 or float64 ``[batch, x, y, z]`` for D = 3, with D from 1 to 4; x, y, z in units of
            the finest voxels, with their fractions, of any sign, in [-131071.5, 131072) (D = 4: [-8191.5, 8192)). Any
            order; points may coincide. Values are checked at once, a wait for the GPU; no gradient goes to them.
        feats: (N, C) float64, float32, float16 or bfloat16, on the same device.
        batch_size: number of clouds, 1 to 1023 (255 for D = 4); None reads it from ``coords`` (0 where N is 0).
    Raises:
        TypeError: not tensors, or a batch_size that is no whole number.
        ValueError: wrong shape, dtype or device; a row that is not finite, out of range or in no cloud of the batch
            (the first is named).
    """

    @tells_arguments(write=NEW_POINTS)
    def __init__(self, coords: Tensor, feats: Tensor, batch_size: int | None = None):
        _check_coords(coords)
        dims = coords.shape[1] - 1
        if batch_size is not None:
            batch_size = positive_int("PointTensor", "batch_size", batch_size)
            check_batch_size("PointTensor", batch_size, dims)
        elif torch.compiler.is_compiling():
            raise ValueError("PointTensor: batch_size must be given under torch.compile, got None")
        coords = coords.detach().contiguous()
        _check_values(coords, batch_size)
        if batch_size is None:
            batch_size = int(coords[:, 0].max()) + 1 if len(coords) else 0
        check_feats("PointTensor", coords, feats)
        self._place, self._feats = PointPlace(coords, batch_size), feats

    @classmethod
    def of_equal_clouds(cls, xyz: Tensor, feats: Tensor) -> "PointTensor":
        """Return B clouds of S points each, in that order; nothing waits for the GPU, then or in later layers.

        What depends on values elsewhere depends on shapes alone here, so that networks of such points can be captured
        as CUDA graphs; for that reason values are not checked.

        Args:
            xyz: (B, S, D) float32 or float64, finite and in range as the class says, B from 1 to 1023, S >= 1.
            feats: (B, S, C) floating point, on the same device.
        Raises:
            TypeError: not tensors. ValueError: wrong shape, dtype or device.
        """
        op = "PointTensor.of_equal_clouds"
        check_tensor(op, "xyz", xyz)
        check_tensor(op, "feats", feats)
        if xyz.ndim != 3 or feats.ndim != 3 or feats.shape[:2] != xyz.shape[:2] or 0 in xyz.shape:
            got = f"{describe(xyz)} and {describe(feats)}"
            raise ValueError(f"{op}: xyz and feats must be (B, S, D) and (B, S, C), none of B, S, D 0, got {got}")
        batch_size, count, dims = xyz.shape
        check_batch_size(op, batch_size, dims)
        batch = torch.arange(batch_size, dtype=xyz.dtype, device=xyz.device)[:, None, None]
        coords = torch.cat([batch.expand(batch_size, count, 1), xyz.detach()], 2).flatten(0, 1)
        _check_coords(coords)
        feats = feats.flatten(0, 1)
        check_feats("PointTensor", coords, feats)
        return cls.on_place(PointPlace(coords, batch_size, count), feats)

    def replace(self, *given: object, feats: Tensor | None = None, **others: object) -> "PointTensor":
        """Return a tensor with the same points, in the same order, and other features (N, any).

        Called ``x.replace(feats=f)`` and no other way; what else is given ends in an error that says so.
        """
        if given or others:
            refuse_call(self, "replace", REPLACE_OF_POINTS, given, others)
        check_feats("PointTensor", self.coords, feats)
        return self.on_place(self._place, feats)

    def take(self, rows: Tensor, *, points_per_cloud: int | None = None) -> "PointTensor":
        """Return some of the points with their features, by (M,) int32 rows in [0, N), which are not checked.

        ``points_per_cloud`` says that rows are as many of each cloud, one cloud after the other.
        """
        place = PointPlace(self.coords.index_select(0, rows), self.batch_size, points_per_cloud)
        return self.on_place(place, ops.gather_rows(self.feats, rows))

    @classmethod
    def on_place(cls, place: PointPlace, feats: Tensor) -> "PointTensor":
        """Return features of the points of ``place``, unchecked: for pcperc's own use."""
        tensor = cls.__new__(cls)
        tensor._place, tensor._feats = place, feats
        return tensor

    def _with_moved(self, coords: Tensor, feats: Tensor) -> "PointTensor":
        return self.on_place(PointPlace(coords, self.batch_size, self.points_per_cloud), feats)

    @property
    def coords(self) -> Tensor:
        """(N, 1 + D) ``[batch, x, y, z]`` in units of the finest voxels."""
        return self._place.coords

    @property
    def feats(self) -> Tensor:
        """(N, C)."""
        return self._feats

    @property
    def items(self) -> ops.Segments:
        """The points of each cloud; found once."""
        return self._place.items

    @property
    def num_points(self) -> int:
        return self.coords.shape[0]

    @property
    def num_channels(self) -> int:
        return self._feats.shape[1]

    @property
    def batch_size(self) -> int:
        return self._place.batch_size

    @property
    def place(self) -> PointPlace:
        """What is known of where the points are; shared by all tensors that :meth:`replace` makes."""
        return self._place

    @property
    def points_per_cloud(self) -> int | None:
        """S where all clouds are known to have S points, one cloud after the other; else None."""
        return self._place.points_per_cloud

    @property
    def dims(self) -> int:
        """Spatial axes D: 3 for x, y, z."""
        return self.coords.shape[1] - 1

    def __len__(self) -> int:
        """Number of points N."""
        return self.num_points

    @property
    def kernel_maps(self) -> KernelMapCache:
        """The cache of the sparse tensors that these points are made into."""
        return self._place.kernel_maps

    def voxels(self, tensor_stride: int | Sequence[int] = 1) -> Topology:
        """Return the voxels of this spacing that hold a point, sorted by key; found once for each spacing.

        Raises:
            TypeError, ValueError: tensor_stride is neither a whole number >= 1 nor one for each axis.
        """
        stride = to_tuple("PointTensor.voxels", "tensor_stride", tensor_stride, self.dims, low=1)
        return self._place.voxels(stride)

    def segments(self, topology: Topology) -> ops.Segments:
        """Return the points of each voxel of ``topology``; one in none of them is left out. Found once.

        Raises:
            TypeError: no topology.
            ValueError: a topology of other axes, batch_size or device, of a fractional spacing, or with repeated rows.
        """
        return self._place.segments(self._fitting("segments", topology))

    def dense_grid(self, resolution: int, *, normalize: bool = True) -> ops.DenseGrid:
        """Return the grid around each cloud, as ``pcperc.ops.make_dense_grid`` does; made once for each of them."""
        resolution = positive_int("PointTensor.dense_grid", "resolution", resolution)
        return self._place.grid(resolution, bool(normalize))

    def interpolation_plan(
        self, topology: Topology, mode: str = "trilinear", *, quantized: bool = False
    ) -> ops.GatherPlan:
        """Return the voxels of ``topology`` that each point reads, with their weights; made once.

        Args:
            topology: the voxels.
            mode, quantized: as in ``pcperc.nn.voxel_to_point``.
        Raises:
            ValueError: an unknown mode, and as :meth:`segments`.
        """
        check_choice("PointTensor.interpolation_plan", "mode", mode, DEVOXELIZATIONS)
        return self._place.plan(self._fitting("interpolation_plan", topology), mode, bool(quantized))

    def _fitting(self, method: str, topology: Topology) -> Topology:
        op = f"PointTensor.{method}"
        if not isinstance(topology, Topology):
            raise TypeError(f"{op}: topology must be the Topology of a sparse tensor, got {describe(topology)}")
        expected = {"spatial axes": self.dims, "batch_size": self.batch_size, "device": self.coords.device}
        got = (topology.dims, topology.batch_size, topology.coords.device)
        for (what, wanted), found in zip(expected.items(), got, strict=True):
            if found != wanted:
                raise ValueError(f"{op}: voxels must have {what} {wanted} like the points, got {found}")
        if not all(isinstance(step, int) for step in topology.tensor_stride):
            raise ValueError(f"{op}: voxels must have a tensor_stride of whole numbers, got {topology.tensor_stride}")
        topology.require_distinct(op)
        return topology

    def __repr__(self) -> str:
        return (
            f"PointTensor(num_points={self.num_points}, num_channels={self.num_channels}, "
            f"batch_size={self.batch_size}, dtype={str(self.dtype).removeprefix('torch.')}, device={self.device})"
        )


def _check_coords(coords: Tensor) -> None:
    check_tensor("PointTensor", "coords", coords)
    if coords.ndim != 2 or not 2 <= coords.shape[1] <= 5 or coords.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            "PointTensor: coords must be (N, 1 + D) float32 or float64 [batch, x, ...] with D from 1 to 4, "
            f"got {describe(coords)}"
        )


def _check_values(coords: Tensor, batch_size: int | None) -> None:
    """Raise for the first row that is in no voxel, or whose neighbours half a voxel below would be in none."""
    below = torch.cat([coords[:, :1], coords[:, 1:] - 0.5], 1)
    good = in_key_range(coords) & in_key_range(below) & (coords[:, 0] == coords[:, 0].floor())
    if batch_size is not None:
        good &= coords[:, 0] < batch_size
    limit = 2**17 if coords.shape[1] <= 4 else 2**13
    batches = "of whole numbers >= 0" if batch_size is None else f"below batch_size {batch_size}"
    wanted = f"finite, in [{0.5 - limit}, {limit}), and have a batch index {batches}"
    if torch.compiler.is_compiling():  # the graph keeps the check; to name the row, tracing would have to stop
        torch._assert_async(good.all(), f"PointTensor: coords must be {wanted}")
    elif not good.all():
        row = int((~good).int().argmax())
        advice = batch_advice(coords, row, batch_size)
        raise ValueError(f"PointTensor: coords must be {wanted}, got row {row} = {coords[row].tolist()}{advice}")
