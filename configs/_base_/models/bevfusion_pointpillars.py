# SPDX-License-Identifier: Apache-2.0
"""BEVFusion from LiDAR alone with PointPillars instead of sparse convolutions, at the published size."""

from mmengine.config import read_base

from pcperc.models.bevfusion import PillarVoxelizer, PointPillarsEncoder

with read_base():
    from .bevfusion_lidar import model

_point_range = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)

model.merge(
    dict(
        data_preprocessor=dict(
            voxelizer=dict(
                _delete_=True,
                type=PillarVoxelizer,
                pillar_size=(0.2, 0.2),
                point_range=_point_range,
                max_points=20,
                max_pillars=(30_000, 60_000),
            ),
        ),
        encoders=dict(
            lidar=dict(
                _delete_=True,
                type=PointPillarsEncoder,
                in_channels=5,
                channels=(64, 64),
                pillar_size=(0.2, 0.2),
                point_range=_point_range,
            ),
        ),
        decoder=dict(
            backbone=dict(in_channels=64, out_channels=(64, 128, 256), num_convs=(3, 5, 5), strides=(2, 2, 2)),
            neck=dict(in_channels=(64, 128, 256), out_channels=(128, 128, 128), upsample_strides=(0.5, 1, 2)),
        ),
        heads=dict(
            object=dict(
                in_channels=384,
                box_coder=dict(point_range=_point_range, cell_size=(0.8, 0.8)),
                criterion=dict(assigner=dict(point_range=_point_range)),
            ),
        ),
    )
)
