# SPDX-License-Identifier: Apache-2.0
"""BEVFusion for map segmentation from LiDAR alone, at the published size: voxels of 0.1 m, cells of 0.8 m."""

from mmengine.config import read_base

from pcperc.datasets import MAP_CLASSES
from pcperc.models.bevfusion import BEVGridTransform, BEVSegmentationHead

with read_base():
    from .bevfusion_lidar import model

point_range = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)

model["data_preprocessor"]["voxelizer"].merge(
    dict(
        voxel_size=(0.1, 0.1, 0.2),
        point_range=point_range,
        spatial_shape=(1024, 1024, 41),
        max_voxels=(90_000, 120_000),
    )
)
model["heads"] = dict(
    map=dict(
        type=BEVSegmentationHead,
        in_channels=512,
        classes=MAP_CLASSES,
        grid_transform=dict(
            type=BEVGridTransform,
            input_bounds=((-51.2, 51.2, 0.8), (-51.2, 51.2, 0.8)),
            output_bounds=((-50.0, 50.0, 0.5), (-50.0, 50.0, 0.5)),
        ),
    ),
)
