# SPDX-License-Identifier: Apache-2.0
"""BEVFusion for detection from camera and LiDAR, at the published size: 39.8M parameters.

The LiDAR-only model, with a camera encoder and a fuser added.
"""

from mmengine.config import read_base

from pcperc.models.bevfusion import CameraEncoder, ConvFuser, DepthLSSTransform, GeneralizedLSSFPN, SwinTransformer

with read_base():
    from .bevfusion_lidar import model

model["encoders"]["camera"] = dict(
    type=CameraEncoder,
    backbone=dict(
        type=SwinTransformer,
        embed_channels=96,
        depths=(2, 2, 6, 2),
        num_heads=(3, 6, 12, 24),
        window_size=7,
        drop_path=0.2,
        out_stages=(1, 2, 3),
    ),
    neck=dict(type=GeneralizedLSSFPN, in_channels=(192, 384, 768), out_channels=256),
    view_transform=dict(
        type=DepthLSSTransform,
        in_channels=256,
        out_channels=80,
        x_bound=(-54.0, 54.0, 0.3),
        y_bound=(-54.0, 54.0, 0.3),
        z_bound=(-10.0, 10.0, 20.0),
        depth_bound=(1.0, 60.0, 0.5),
        downsample=2,
        feature_stride=8,
    ),
)
model["fuser"] = dict(type=ConvFuser, in_channels=(80, 256), out_channels=256, passes=1)
