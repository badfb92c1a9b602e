# SPDX-License-Identifier: Apache-2.0
"""Map segmentation from LiDAR alone at demonstration size: cells of 1.2 m, masks of 1 m."""

from mmengine.config import read_base

from pcperc.datasets import MAP_CLASSES
from pcperc.models.bevfusion import BEVGridTransform, BEVSegmentationHead

with read_base():
    from .bevfusion_lidar_demo import model

# The published momentum of 0.01 follows a run of thousands of iterations, not one of a hundred.
model.merge(
    dict(
        encoders=dict(lidar=dict(norm_momentum=0.1)),
        decoder=dict(backbone=dict(norm_momentum=0.1), neck=dict(norm_momentum=0.1)),
    )
)
model["heads"] = dict(
    map=dict(
        type=BEVSegmentationHead,
        in_channels=96,
        classes=MAP_CLASSES,
        grid_transform=dict(
            type=BEVGridTransform,
            input_bounds=((-54.0, 54.0, 1.2), (-54.0, 54.0, 1.2)),
            output_bounds=((-50.0, 50.0, 1.0), (-50.0, 50.0, 1.0)),
        ),
    ),
)
