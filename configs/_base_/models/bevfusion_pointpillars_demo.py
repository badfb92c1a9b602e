# SPDX-License-Identifier: Apache-2.0
"""BEVFusion with PointPillars at demonstration size: pillars of 0.4 m, cells of 1.6 m."""

from mmengine.config import read_base

with read_base():
    from .bevfusion_pointpillars import _point_range, model  # noqa: F401  (what a config imports becomes part of it)

model.merge(
    dict(
        data_preprocessor=dict(voxelizer=dict(pillar_size=(0.4, 0.4), max_pillars=(15_000, 15_000))),
        encoders=dict(lidar=dict(channels=(32, 32), pillar_size=(0.4, 0.4))),
        decoder=dict(
            backbone=dict(in_channels=32, out_channels=(32, 48, 64), num_convs=(1, 2, 2)),
            neck=dict(in_channels=(32, 48, 64), out_channels=(32, 32, 32)),
        ),
        heads=dict(
            object=dict(
                in_channels=96,
                hidden_channels=64,
                num_proposals=100,
                num_heads=4,
                ffn_channels=128,
                branch_channels=32,
                box_coder=dict(cell_size=(1.6, 1.6)),
            ),
        ),
    )
)
