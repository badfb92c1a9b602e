# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""SPVCNN on nuScenes-lidarseg: 16 classes, voxels of 10 cm, intensities from 0 to 255 as recorded."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.nuscenes_lidarseg import (
        data_root,
        data_version,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.spvcnn import model
    from .._base_.schedules.sgd_15_epochs import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

model.merge(dict(data_preprocessor=dict(voxel_size=0.1), backbone=dict(num_classes=16)))
