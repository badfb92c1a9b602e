# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Both branches from random weights; simulated.py goes on with the camera branch, as published with nuImages' weights.

Beside a LiDAR branch that was trained before, which knows a small training set by heart, a random camera branch learns
nothing, and alone it learns slowly. Beside one that begins as it does, it learns early where to look.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.nuscenes_simulated import (
        data_root,
        data_version,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.bevfusion import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

model["fuser"]["passes"] = None  # no branch is ahead of the other
train_dataloader.merge(dict(batch_size=8))
train_cfg.merge(dict(max_epochs=3))
optim_wrapper.optimizer.merge(dict(lr=6e-4))
