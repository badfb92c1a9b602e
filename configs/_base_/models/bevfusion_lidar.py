# SPDX-License-Identifier: Apache-2.0
"""BEVFusion for detection from LiDAR alone, at the published size: 8.31M parameters (TransFusion-L at 0.075 m)."""

from pcperc.models.bevfusion import (
    SECOND,
    SECONDFPN,
    BEVDecoder,
    BEVFusion,
    BEVFusionPreprocessor,
    BoxCoder,
    HardVoxelizer,
    HungarianAssigner,
    SparseEncoder,
    TransFusionHead,
    TransFusionLoss,
)

point_range = (-54.0, -54.0, -5.0, 54.0, 54.0, 3.0)

model = dict(
    type=BEVFusion,
    data_preprocessor=dict(
        type=BEVFusionPreprocessor,
        voxelizer=dict(
            type=HardVoxelizer,
            voxel_size=(0.075, 0.075, 0.2),
            point_range=point_range,
            spatial_shape=(1440, 1440, 41),
            max_points=10,
            max_voxels=(120_000, 160_000),
        ),
    ),
    encoders=dict(
        lidar=dict(
            type=SparseEncoder,
            in_channels=5,
            stem_channels=16,
            stages=((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
            strided_paddings=(1, 1, (1, 1, 0)),
            out_channels=128,
        ),
    ),
    decoder=dict(
        type=BEVDecoder,
        backbone=dict(type=SECOND, in_channels=256, out_channels=(128, 256), num_convs=(5, 5), strides=(1, 2)),
        neck=dict(type=SECONDFPN, in_channels=(128, 256), out_channels=(256, 256), upsample_strides=(1, 2)),
    ),
    heads=dict(
        object=dict(
            type=TransFusionHead,
            in_channels=512,
            num_classes=10,
            hidden_channels=128,
            num_proposals=200,
            num_heads=8,
            ffn_channels=256,
            dropout=0.1,
            branch_channels=64,
            box_coder=dict(type=BoxCoder, point_range=point_range, cell_size=(0.6, 0.6)),
            criterion=dict(type=TransFusionLoss, assigner=dict(type=HungarianAssigner, point_range=point_range)),
        ),
    ),
)
