# SPDX-License-Identifier: Apache-2.0
"""nuScenes for BEVFusion: camera and LiDAR, ten sweeps, the augmentation of the published fusion stage."""

from pcperc.datasets import ClassBalancedSampler, EpochSampler, NuScenesDataset, collate
from pcperc.evaluation import NuScenesMetric
from pcperc.transforms import (
    BoxesRangeFilter,
    GlobalScaleRotateTranslate,
    PointsRangeFilter,
    RandomFlip3D,
    ResizeCrop,
    ResizeCropFlipRotate,
    ShufflePoints,
)

data_root = "data/nuscenes"
data_version = "v1.0-trainval"
_point_range = (-54.0, -54.0, -5.0, 54.0, 54.0, 3.0)

train_dataloader = dict(
    dataset=dict(
        type=NuScenesDataset,
        root=data_root,
        version=data_version,
        split="train",
        modalities=("lidar", "camera"),
        num_sweeps=9,
        transforms=[
            dict(type=ResizeCropFlipRotate, final_size=(256, 704), resize_range=(0.38, 0.55)),
            dict(type=GlobalScaleRotateTranslate),
            dict(type=RandomFlip3D),
            dict(type=PointsRangeFilter, point_range=_point_range),
            dict(type=BoxesRangeFilter, point_range=_point_range),
            dict(type=ShufflePoints),
        ],
    ),
    sampler=dict(type=ClassBalancedSampler),
    batch_size=4,
    drop_last=True,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
val_dataloader = dict(
    dataset=dict(
        type=NuScenesDataset,
        root=data_root,
        version=data_version,
        split="val",
        modalities=("lidar", "camera"),
        num_sweeps=9,
        transforms=[
            dict(type=ResizeCrop, final_size=(256, 704), resize=0.48),
            dict(type=PointsRangeFilter, point_range=_point_range),
        ],
        test_mode=True,
    ),
    sampler=dict(type=EpochSampler, shuffle=False),
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=NuScenesMetric)
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
