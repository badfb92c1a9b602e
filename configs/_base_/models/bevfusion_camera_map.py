# SPDX-License-Identifier: Apache-2.0
"""BEVFusion for map segmentation from cameras alone, at the published size."""

from mmengine.config import read_base

from pcperc.models.bevfusion import LSSFPN, BEVDecoder, BEVFusionPreprocessor, GeneralizedResNet

with read_base():
    from .bevfusion_fusion_map import model

model["data_preprocessor"] = dict(type=BEVFusionPreprocessor)
model["encoders"].pop("lidar")
model.pop("fuser")
model["decoder"] = dict(
    type=BEVDecoder,
    backbone=dict(type=GeneralizedResNet, in_channels=80, stages=((2, 160, 2), (2, 320, 2), (2, 640, 1))),
    neck=dict(type=LSSFPN, in_channels=(640, 160), out_channels=256, scale_factor=2),
)
model["heads"]["map"]["in_channels"] = 256
