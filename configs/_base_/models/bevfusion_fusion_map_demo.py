# SPDX-License-Identifier: Apache-2.0
"""Map segmentation from camera and LiDAR at demonstration size, for images of 128 x 352 pixels."""

from mmengine.config import read_base

from pcperc.models.bevfusion import CameraEncoder, ConvFuser, GeneralizedLSSFPN, LSSTransform, SwinTransformer

with read_base():
    from .bevfusion_lidar_map_demo import model

model["encoders"]["camera"] = dict(
    type=CameraEncoder,
    backbone=dict(
        type=SwinTransformer,
        embed_channels=24,
        depths=(1, 1, 1),
        num_heads=(1, 2, 4),
        window_size=7,
        drop_path=0.0,
        out_stages=(1, 2),
    ),
    neck=dict(type=GeneralizedLSSFPN, in_channels=(48, 96), out_channels=48),
    view_transform=dict(
        type=LSSTransform,
        in_channels=48,
        out_channels=32,
        x_bound=(-54.0, 54.0, 1.2),
        y_bound=(-54.0, 54.0, 1.2),
        z_bound=(-10.0, 10.0, 20.0),
        depth_bound=(1.0, 60.0, 1.0),
        downsample=1,
        feature_stride=8,
    ),
)
model["fuser"] = dict(type=ConvFuser, in_channels=(32, 96), out_channels=96)
