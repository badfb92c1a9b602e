# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""PVCNN of S3DIS at a quarter of the width: 0.166M parameters; published mIoU of area 5 53.08."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.s3dis import data_root, test_cfg, test_dataloader, test_evaluator, train_dataloader
    from .._base_.models.pvcnn_rooms import model
    from .._base_.schedules.adam_cosine import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

train_cfg.merge(dict(max_epochs=50))
optim_wrapper.optimizer.merge(dict(weight_decay=1e-5))
model.backbone.merge(dict(width=0.25))
profiles = dict(demo="rooms_demo.py")
