# SPDX-License-Identifier: Apache-2.0
"""From a collated batch to what BEVFusion's encoders read, on the model's device."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from pcperc import ops
from pcperc.registry import MODELS
from pcperc.sparse import SparseTensor


@MODELS.register_module()
class HardVoxelizer:
    """Average the points of each voxel, with limits on points per voxel and voxels per sample.

    Args:
        voxel_size: (x, y, z) metres.
        point_range: (x0, y0, z0, x1, y1, z1) metres; points outside are dropped.
        spatial_shape: (X, Y, Z) of the lattice; at least what the range holds. BEVFusion's Z has one to spare.
        max_points: points per voxel; the first ones count.
        max_voxels: per sample, in training and in testing; the voxels of the first points stay.
    Raises:
        ValueError: a lattice that does not hold the range.
    """

    def __init__(
        self,
        voxel_size: Sequence[float],
        point_range: Sequence[float],
        spatial_shape: Sequence[int],
        *,
        max_points: int = 10,
        max_voxels: Sequence[int] = (120_000, 160_000),
    ):
        self.voxel_size, self.point_range = tuple(voxel_size), tuple(point_range)
        self.spatial_shape = tuple(spatial_shape)
        self.max_points, self.max_voxels = max_points, tuple(max_voxels)
        sizes = [(hi - lo) / v for lo, hi, v in zip(point_range[:3], point_range[3:], voxel_size, strict=True)]
        if any(shape < round(size, 3) for shape, size in zip(spatial_shape, sizes, strict=True)):
            raise ValueError(f"HardVoxelizer: spatial_shape must be at least {sizes}, got {self.spatial_shape}")

    def __call__(self, points: Sequence[Tensor], *, training: bool) -> SparseTensor:
        """Voxelize B clouds (N_i, F) into coords (M, 4) and feats (M, F), the mean of each voxel's points."""
        merged = torch.cat(list(points))
        items = [merged.new_full(cloud.shape[:1], item, dtype=torch.int32) for item, cloud in enumerate(points)]
        voxels = ops.voxelize_hard_mean(
            merged,
            torch.cat(items),
            voxel_size=self.voxel_size,
            point_range=self.point_range,
            max_points=self.max_points,
            max_voxels=self.max_voxels[0 if training else 1],
            batch_size=len(points),
            check_batch_index=False,  # they were just made
        )
        return SparseTensor(voxels.coords, voxels.feats, len(points), spatial_shape=self.spatial_shape)


@MODELS.register_module()
class BEVFusionPreprocessor(BaseDataPreprocessor):
    """Move a batch to the device, normalise its images, voxelize its points.

    Args:
        voxelizer: points to voxels or pillars; None where no LiDAR encoder follows.
        image_mean, image_std: of ImageNet, per colour (red, green, blue), in 0 to 255.
        non_blocking: let copies to the device overlap with the host's work.
    """

    def __init__(
        self,
        voxelizer: Callable[..., Any] | None = None,
        *,
        image_mean: Sequence[float] = (123.675, 116.28, 103.53),
        image_std: Sequence[float] = (58.395, 57.12, 57.375),
        non_blocking: bool = False,
    ):
        super().__init__(non_blocking)
        self.voxelizer = voxelizer
        self.register_buffer("image_mean", torch.tensor(image_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("image_std", torch.tensor(image_std).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model is; asked of a buffer, since not every way of moving a model tells MMEngine's attribute."""
        return self.image_mean.device

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: ``inputs`` and ``samples`` as of ``pcperc.datasets.collate``; left as it is.
            training: which limit of voxels holds.
        Returns:
            The same layout, ``inputs`` on the device: ``inputs["images"]`` (B, V, 3, H, W) normalised float32 where
            there are images and, with a voxelizer, ``inputs["voxels"]``, what it gives. ``samples`` stay as they are:
            losses gather what they need of them and send it in one piece.
        Raises:
            ValueError: a voxelizer but no points, or images of another shape.
        """
        inputs = dict(self.cast_data(data["inputs"]))
        data = {**data, "inputs": inputs}
        with torch.autocast(self.device.type, enabled=False):
            if "images" in inputs:
                inputs["images"] = self.normalise(inputs["images"])
            if self.voxelizer is not None:
                if "points" not in inputs:
                    raise ValueError(f"BEVFusionPreprocessor: inputs must hold 'points', got {sorted(inputs)}")
                inputs["voxels"] = self.voxelizer(inputs["points"], training=training)
        return data

    def normalise(self, images: Tensor) -> Tensor:
        """Subtract the mean and divide by the deviation of each colour."""
        if images.ndim != 5 or images.shape[2] != 3:
            raise ValueError(f"BEVFusionPreprocessor: images must be (B, V, 3, H, W), got {tuple(images.shape)}")
        return (images.float() - self.image_mean) / self.image_std
