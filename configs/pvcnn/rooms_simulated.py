# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""PVCNN at a quarter of the width on simulated rooms, in minutes on one data-centre GPU."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.s3dis_simulated import (
        data_root,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.pvcnn_rooms import model
    from .._base_.schedules.simulated_parts import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

model.backbone.merge(dict(width=0.25))
train_cfg.merge(dict(max_epochs=8))
