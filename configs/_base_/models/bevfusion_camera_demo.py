# SPDX-License-Identifier: Apache-2.0
"""BEVFusion from cameras alone at demonstration size, for images of 128 x 352 pixels; cells of 1.6 m."""

from mmengine.config import read_base

with read_base():
    from .bevfusion_camera import model

model.merge(
    dict(
        encoders=dict(
            camera=dict(
                backbone=dict(
                    embed_channels=24, depths=(1, 1, 1), num_heads=(1, 2, 4), drop_path=0.0, out_stages=(1, 2)
                ),
                neck=dict(in_channels=(48, 96), out_channels=48),
                view_transform=dict(
                    in_channels=48,
                    out_channels=32,
                    x_bound=(-51.2, 51.2, 1.6),
                    y_bound=(-51.2, 51.2, 1.6),
                    depth_bound=(1.0, 60.0, 1.0),
                    downsample=1,
                ),
            ),
        ),
        decoder=dict(
            backbone=dict(in_channels=32, stages=((1, 48, 2), (1, 64, 2), (1, 96, 1))),
            neck=dict(in_channels=(96, 48), out_channels=64),
        ),
        heads=dict(
            object=dict(in_channels=64, shared_channels=32, branch_channels=32, box_coder=dict(cell_size=(1.6, 1.6))),
        ),
    )
)
