# SPDX-License-Identifier: Apache-2.0
"""BEVFusion from LiDAR alone at demonstration size, for points in the vehicle's frame.

Its origin is near the road, so that the box of space is 2 m higher than nuScenes'.
"""

from mmengine.config import read_base

with read_base():
    from .bevfusion_lidar_demo import model

_point_range = (-54.0, -54.0, -3.0, 54.0, 54.0, 5.0)

model.merge(
    dict(
        data_preprocessor=dict(voxelizer=dict(point_range=_point_range)),
        heads=dict(
            object=dict(
                box_coder=dict(point_range=_point_range), criterion=dict(assigner=dict(point_range=_point_range))
            )
        ),
    )
)
