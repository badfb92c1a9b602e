# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""MinkUNet on SemanticKITTI at 0.5 times the width: 5.4M parameters; published: 28.5 GMACs, 58.9 mIoU on val."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.semantickitti import (
        data_root,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.minkunet import model
    from .._base_.schedules.sgd_15_epochs import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

model.merge(dict(backbone=dict(net=dict(width=0.5))))
