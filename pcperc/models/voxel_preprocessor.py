# SPDX-License-Identifier: Apache-2.0
"""From a collated batch of scans to the points that a segmentation network reads, on the model's device."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from pcperc import ops
from pcperc.registry import MODELS
from pcperc.sparse import PointTensor

ROUNDINGS = ("floor", "round")
ROWS = ("all", "one_per_voxel")
MAX_INDEX = 2**17 - 1  # of a voxel along each axis, pcperc.sparse.PointTensor


class PreparedPoints(NamedTuple):
    """What the network reads, and how it belongs to the N points of all clouds of the batch, one after the other."""

    points: PointTensor  # R rows
    row_point: Tensor  # (R,) int64, the point whose features and label each row has
    point_row: Tensor  # (N,) int64, the row whose prediction each point takes; -1: it was left out


@MODELS.register_module()
class VoxelPreprocessor(BaseDataPreprocessor):
    """Move a batch to the device and measure its points in voxels.

    Args:
        voxel_size: edge length in metres, or (x, y, z).
        max_voxels: in training, at most as many voxels of a scan are kept, drawn at random with the points in them;
            None keeps all. Testing keeps all.
        rounding: where voxels lie. "floor": voxel i is [i, i + 1) edges; "round": [i - 0.5, i + 0.5).
        points: "all": every point is a row, at its true place within its voxel. "one_per_voxel": the first point of
            each voxel is a row, at the index of the voxel, counted from the lowest one of the scan. With "round" that
            is what the published SPVNAS code feeds its networks; weights trained so expect it, together with
            ``quantized=True`` of the network.
        columns: of the points that become features; (0, 1, 2, 3) is x, y, z in metres and intensity.
        non_blocking: let copies to the device overlap with the host's work.
    Raises:
        ValueError: a voxel_size that is not positive, max_voxels < 1, no column, or an unknown name.
    """

    def __init__(
        self,
        voxel_size: float | Sequence[float] = 0.05,
        *,
        max_voxels: int | None = None,
        rounding: str = "floor",
        points: str = "all",
        columns: Sequence[int] = (0, 1, 2, 3),
        non_blocking: bool = False,
    ):
        super().__init__(non_blocking)
        sizes = torch.tensor(voxel_size, dtype=torch.float32).flatten()
        if len(sizes) not in (1, 3) or not ((sizes > 0) & sizes.isfinite()).all():
            raise ValueError(f"VoxelPreprocessor: voxel_size must be one positive number or three, got {voxel_size}")
        if not columns or min(columns) < 0:
            raise ValueError(f"VoxelPreprocessor: columns must name one or more columns, got {columns}")
        if max_voxels is not None and max_voxels < 1:
            raise ValueError(f"VoxelPreprocessor: max_voxels must be >= 1 or None, got {max_voxels}")
        for name, value, known in (("rounding", rounding, ROUNDINGS), ("points", points, ROWS)):
            if value not in known:
                raise ValueError(f"VoxelPreprocessor: {name} must be one of {', '.join(known)}, got {value!r}")
        self.register_buffer("voxel_size", sizes.expand(3).clone(), persistent=False)
        self.max_voxels, self.rounding, self.points, self.columns = max_voxels, rounding, points, list(columns)

    @property
    def device(self) -> torch.device:
        """Where the model is; asked of a buffer, since not every way of moving a model tells MMEngine's attribute."""
        return self.voxel_size.device

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: ``inputs`` and ``samples`` as of ``pcperc.datasets.collate``; left as it is.
            training: whether max_voxels holds.
        Returns:
            The same layout on the device, with ``inputs["prepared"]``, the PreparedPoints.
        Raises:
            ValueError: no points, too few columns, or a coordinate that is not finite or beyond the lattice; the
                message names the sample.
        """
        data = self.cast_data(data)
        inputs = data["inputs"] = dict(data["inputs"])
        if "points" not in inputs:
            raise ValueError(f"VoxelPreprocessor: inputs must hold 'points', got {sorted(inputs)}")
        names = [str(sample.get("sample_token", i)) for i, sample in enumerate(data.get("samples") or [])]
        with torch.autocast(self.device.type, enabled=False):
            inputs["prepared"] = self.prepare(inputs["points"], training=training, names=names)
        return data

    def prepare(self, clouds: Sequence[Tensor], *, training: bool = False, names: Sequence[str] = ()) -> PreparedPoints:
        """Measure B >= 1 clouds (N_i, F) in voxels; ``names`` are for messages."""
        for cloud in clouds:
            if cloud.ndim != 2 or cloud.shape[1] <= max(2, *self.columns):
                raise ValueError(
                    f"VoxelPreprocessor: points must be (N, {max(2, *self.columns) + 1}) or wider, "
                    f"got {tuple(cloud.shape)}"
                )
        counts = torch.tensor([len(cloud) for cloud in clouds], device=self.device)
        merged = torch.cat(list(clouds)).float()
        batch = torch.arange(len(clouds), device=self.device).repeat_interleave(counts, output_size=len(merged))
        # By a tensor: a GPU divides by a plain number inexactly, and points at a border would change their voxel.
        xyz = merged[:, :3] / self.voxel_size
        self._check_range(merged, xyz, batch, names)
        place = xyz + 0.5 if self.rounding == "round" else xyz
        point_row = torch.arange(len(merged), device=self.device)
        row_point = point_row
        if self.points == "one_per_voxel":
            cells = xyz.round() if self.rounding == "round" else xyz.floor()
            place = cells - _lowest(cells, batch, len(clouds))[batch]
        if self.points == "one_per_voxel" or (training and self.max_voxels is not None):
            voxels = ops.unique_coords(torch.cat([batch.unsqueeze(1), place.floor()], 1).int())
            if self.points == "one_per_voxel":
                first = torch.full((len(voxels.coords),), len(merged), device=self.device)
                row_point, point_row = first.scatter_reduce_(0, voxels.inverse, point_row, "amin"), voxels.inverse
            if training and self.max_voxels is not None:
                kept = _drawn(voxels.coords[:, 0], len(clouds), self.max_voxels)
                rows_kept = kept if self.points == "one_per_voxel" else kept[voxels.inverse]
                row_point = row_point[rows_kept]
                point_row = torch.where(rows_kept, rows_kept.cumsum(0) - 1, -1)[point_row]
        coords = torch.cat([batch.unsqueeze(1).to(place), place], 1)[row_point]
        points = PointTensor(coords, merged[row_point][:, self.columns], len(clouds))
        return PreparedPoints(points, row_point, point_row)

    def _check_range(self, points: Tensor, xyz: Tensor, batch: Tensor, names: Sequence[str]) -> None:
        """Raise for the first point outside the lattice; what is not finite is never inside."""
        bad = ~(xyz.abs() < MAX_INDEX).all(1) | ~points[:, self.columns].isfinite().all(1)
        if bad.any():
            row = int(bad.int().argmax())
            item = int(batch[row])
            first = row - int((batch < item).sum())
            name = names[item] if item < len(names) else item
            limit = (MAX_INDEX * self.voxel_size).tolist()
            raise ValueError(
                f"VoxelPreprocessor: points of sample {name} must be finite, x, y, z within "
                f"{', '.join(f'{value:.0f}' for value in limit)} m, got {points[row].tolist()} at point {first}"
            )


def _lowest(cells: Tensor, batch: Tensor, batch_size: int) -> Tensor:
    """Return the lowest index of each axis in each cloud, (B, 3); 0 for an empty one."""
    lowest = cells.new_zeros(batch_size, 3)
    return lowest.scatter_reduce_(0, batch.unsqueeze(1).expand(-1, 3), cells, "amin", include_self=False)


def _drawn(batch: Tensor, batch_size: int, limit: int) -> Tensor:
    """Return which of the voxels (M,) are kept: ``limit`` of each cloud, by chance, or all where it has no more."""
    kept = torch.ones(len(batch), dtype=torch.bool, device=batch.device)
    for item in range(batch_size):
        rows = (batch == item).nonzero().squeeze(1)
        kept[rows[torch.randperm(len(rows), device=batch.device)[limit:]]] = False
    return kept
