# SPDX-License-Identifier: Apache-2.0
"""BEVFusion with both heads on one bird's-eye view: boxes and map from camera and LiDAR, at the detector's size."""

from mmengine.config import read_base

from pcperc.datasets import MAP_CLASSES
from pcperc.models.bevfusion import BEVGridTransform, BEVSegmentationHead

with read_base():
    from .bevfusion import model

model["heads"]["map"] = dict(
    type=BEVSegmentationHead,
    in_channels=512,
    classes=MAP_CLASSES,
    grid_transform=dict(
        type=BEVGridTransform,
        input_bounds=((-54.0, 54.0, 0.6), (-54.0, 54.0, 0.6)),
        output_bounds=((-50.0, 50.0, 0.5), (-50.0, 50.0, 0.5)),
    ),
)
