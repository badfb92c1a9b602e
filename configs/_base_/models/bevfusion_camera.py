# SPDX-License-Identifier: Apache-2.0
"""BEVFusion for detection from cameras alone, at the published size: 43.3M parameters, cells of 0.8 m."""

from mmengine.config import read_base

from pcperc.models.bevfusion import (
    LSSFPN,
    BEVDecoder,
    BEVFusion,
    BEVFusionPreprocessor,
    CameraEncoder,
    GeneralizedLSSFPN,
    GeneralizedResNet,
    LSSTransform,
    SwinTransformer,
)

with read_base():
    from .center_head import _center_head

_point_range = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)

model = dict(
    type=BEVFusion,
    data_preprocessor=dict(type=BEVFusionPreprocessor),
    encoders=dict(
        camera=dict(
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
        ),
    ),
    decoder=dict(
        type=BEVDecoder,
        backbone=dict(type=GeneralizedResNet, in_channels=80, stages=((2, 128, 2), (2, 256, 2), (2, 512, 1))),
        neck=dict(type=LSSFPN, in_channels=(512, 128), out_channels=256, scale_factor=2),
    ),
    heads=dict(object=_center_head),
)
model["heads"]["object"].merge(dict(in_channels=256, box_coder=dict(point_range=_point_range, cell_size=(0.8, 0.8))))
