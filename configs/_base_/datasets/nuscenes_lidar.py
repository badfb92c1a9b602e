# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""nuScenes for the LiDAR stage: no images, and objects of rare classes pasted into the scene (GT-paste)."""

from mmengine.config import read_base

from pcperc.transforms import (
    BoxesRangeFilter,
    GlobalScaleRotateTranslate,
    GTPaste,
    PointsRangeFilter,
    RandomFlip3D,
    ShufflePoints,
)

with read_base():
    from .nuscenes import (
        data_root,
        data_version,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
        val_cfg,
        val_dataloader,
        val_evaluator,
    )

_point_range = (-54.0, -54.0, -5.0, 54.0, 54.0, 3.0)

train_dataloader.dataset.merge(
    dict(
        modalities=("lidar",),
        transforms=[
            dict(
                type=GTPaste,
                database=f"{data_root}/pcperc/{data_version}/train_gt_database",
                stop_epoch=15,
            ),
            dict(type=GlobalScaleRotateTranslate),
            dict(type=RandomFlip3D),
            dict(type=PointsRangeFilter, point_range=_point_range),
            dict(type=BoxesRangeFilter, point_range=_point_range),
            dict(type=ShufflePoints),
        ],
    )
)
val_dataloader.dataset.merge(
    dict(modalities=("lidar",), transforms=[dict(type=PointsRangeFilter, point_range=_point_range)])
)
test_dataloader = val_dataloader
val_evaluator.merge(dict(modalities=("lidar",)))
test_evaluator = val_evaluator
