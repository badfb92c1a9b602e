# SPDX-License-Identifier: Apache-2.0
"""BEVFusion from LiDAR alone at demonstration size: the same parts, narrower and shallower, cells of 1.2 m."""

from mmengine.config import read_base

with read_base():
    from .bevfusion_lidar import model

model.merge(
    dict(
        data_preprocessor=dict(
            voxelizer=dict(voxel_size=(0.3, 0.3, 0.4), spatial_shape=(360, 360, 21), max_voxels=(40_000, 40_000)),
        ),
        encoders=dict(
            lidar=dict(
                stages=((16, 32), (32, 48), (48,)),
                strided_paddings=(1, (1, 1, 0)),
                out_channels=48,
            ),
        ),
        decoder=dict(
            backbone=dict(in_channels=96, out_channels=(48, 64), num_convs=(2, 2)),
            neck=dict(in_channels=(48, 64), out_channels=(48, 48)),
        ),
        heads=dict(
            object=dict(
                in_channels=96,
                hidden_channels=64,
                num_proposals=100,
                num_heads=4,
                ffn_channels=128,
                branch_channels=32,
                box_coder=dict(cell_size=(1.2, 1.2)),
            ),
        ),
    )
)
