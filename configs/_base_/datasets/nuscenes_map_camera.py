# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""nuScenes for map segmentation from cameras alone."""

from mmengine.config import read_base

with read_base():
    from .nuscenes_map import (
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

# Without what is done to points.
train_dataloader.dataset.merge(dict(modalities=("camera",), transforms=train_dataloader.dataset.transforms[:4]))
val_dataloader.dataset.merge(dict(modalities=("camera",), transforms=val_dataloader.dataset.transforms[:2]))
test_dataloader = val_dataloader
