# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""PointNet of S3DIS by the recipe of PVCNN; published mIoU of area 5 44.03."""

from mmengine.config import read_base

from pcperc.models.pvcnn import pointnet_s3dis

with read_base():
    from .._base_.datasets.s3dis import data_root, test_cfg, test_dataloader, test_evaluator, train_dataloader
    from .._base_.models.pvcnn_rooms import model
    from .._base_.schedules.adam_cosine import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

train_cfg.merge(dict(max_epochs=50))
optim_wrapper.optimizer.merge(dict(weight_decay=1e-5))
model.merge(dict(backbone=dict(type=pointnet_s3dis)))
