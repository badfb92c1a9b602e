# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""nuScenes for the camera-only detector: no points, and the gentler augmentation of its published recipe."""

from mmengine.config import read_base

from pcperc.transforms import (
    BoxesRangeFilter,
    GlobalScaleRotateTranslate,
    RandomFlip3D,
    ResizeCrop,
    ResizeCropFlipRotate,
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

train_dataloader.dataset.merge(
    dict(
        modalities=("camera",),
        transforms=[
            dict(type=ResizeCropFlipRotate, final_size=(256, 704), resize_range=(0.38, 0.55)),
            dict(
                type=GlobalScaleRotateTranslate,
                scale_range=(0.95, 1.05),
                rotate_range=(-0.3925, 0.3925),
                translate_std=0.0,
            ),
            dict(type=RandomFlip3D),
            dict(type=BoxesRangeFilter, point_range=(-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)),
        ],
    )
)
train_dataloader.merge(dict(batch_size=6))
val_dataloader.dataset.merge(
    dict(modalities=("camera",), transforms=[dict(type=ResizeCrop, final_size=(256, 704), resize=0.48)])
)
test_dataloader = val_dataloader
val_evaluator.merge(dict(modalities=("camera",)))
test_evaluator = val_evaluator
