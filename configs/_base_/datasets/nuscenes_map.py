# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""nuScenes for map segmentation from camera and LiDAR: true masks from the map expansion, drawn after augmentation."""

from mmengine.config import read_base

from pcperc.evaluation import MapMetric
from pcperc.transforms import (
    BoxesRangeFilter,
    DrawMapMasks,
    GlobalScaleRotateTranslate,
    PointsRangeFilter,
    RandomFlip3D,
    ResizeCrop,
    ResizeCropFlipRotate,
    ShufflePoints,
)

with read_base():
    from .nuscenes import data_root, data_version, test_cfg, test_dataloader, train_dataloader, val_cfg, val_dataloader

_point_range = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)

train_dataloader.dataset.merge(
    dict(
        with_map=True,
        transforms=[
            dict(type=ResizeCropFlipRotate, final_size=(256, 704), resize_range=(0.38, 0.55)),
            dict(type=GlobalScaleRotateTranslate),
            dict(type=RandomFlip3D),
            dict(type=DrawMapMasks, as_published=True),
            dict(type=PointsRangeFilter, point_range=_point_range),
            dict(type=BoxesRangeFilter, point_range=_point_range),
            dict(type=ShufflePoints),
        ],
    )
)
val_dataloader.dataset.merge(
    dict(
        with_map=True,
        transforms=[
            dict(type=ResizeCrop, final_size=(256, 704), resize=0.48),
            dict(type=DrawMapMasks, as_published=True),
            dict(type=PointsRangeFilter, point_range=_point_range),
        ],
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(type=MapMetric)
test_evaluator = val_evaluator
