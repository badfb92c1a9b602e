# SPDX-License-Identifier: Apache-2.0
"""BEVFusion for map segmentation from camera and LiDAR, at the published size; the camera's depth is from images."""

from mmengine.config import read_base

from pcperc.models.bevfusion import CameraEncoder, ConvFuser, GeneralizedLSSFPN, LSSTransform, SwinTransformer

with read_base():
    from .bevfusion_lidar_map import model

model["encoders"]["camera"] = dict(
    type=CameraEncoder,
    backbone=dict(
        type=SwinTransformer,
        embed_channels=96,
        depths=(2, 2, 6, 2),
        num_heads=(3, 6, 12, 24),
        window_size=7,
        drop_path=0.3,
        out_stages=(1, 2, 3),
    ),
    neck=dict(type=GeneralizedLSSFPN, in_channels=(192, 384, 768), out_channels=256),
    view_transform=dict(
        type=LSSTransform,
        in_channels=256,
        out_channels=80,
        x_bound=(-51.2, 51.2, 0.4),
        y_bound=(-51.2, 51.2, 0.4),
        z_bound=(-10.0, 10.0, 20.0),
        depth_bound=(1.0, 60.0, 0.5),
        downsample=2,
        feature_stride=8,
    ),
)
model["fuser"] = dict(type=ConvFuser, in_channels=(80, 256), out_channels=256)
