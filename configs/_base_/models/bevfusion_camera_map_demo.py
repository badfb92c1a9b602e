# SPDX-License-Identifier: Apache-2.0
"""Map segmentation from cameras alone at demonstration size."""

from mmengine.config import read_base

from pcperc.models.bevfusion import LSSFPN, BEVDecoder, BEVFusionPreprocessor, GeneralizedResNet

with read_base():
    from .bevfusion_fusion_map_demo import model

model["data_preprocessor"] = dict(type=BEVFusionPreprocessor)
model["encoders"].pop("lidar")
model.pop("fuser")
model["decoder"] = dict(
    type=BEVDecoder,
    backbone=dict(type=GeneralizedResNet, in_channels=32, stages=((1, 48, 2), (1, 64, 2), (1, 96, 1))),
    neck=dict(type=LSSFPN, in_channels=(96, 48), out_channels=96, scale_factor=2),
)
