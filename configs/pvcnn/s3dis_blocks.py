# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""PVCNN of S3DIS at full width on the published h5 blocks: 2.572M parameters; published mIoU of area 5 56.64."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.s3dis_blocks import data_root, test_cfg, test_dataloader, test_evaluator, train_dataloader
    from .._base_.models.pvcnn_rooms import model
    from .._base_.schedules.adam_cosine import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

train_cfg.merge(dict(max_epochs=50))
optim_wrapper.optimizer.merge(dict(weight_decay=1e-5))
model.merge(dict(data_preprocessor=dict(block=None)))
