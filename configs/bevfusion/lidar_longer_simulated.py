# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""LiDAR alone through the LiDAR stage and the last stage of simulated.py: what camera + LiDAR is to be compared with.

The last stage has the same samples, epochs and rate as there, and no pasted objects either.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.nuscenes_simulated_lidar import (
        data_root,
        data_version,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.bevfusion_lidar import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

train_dataloader.merge(dict(batch_size=8))
train_dataloader.dataset.merge(dict(transforms=train_dataloader.dataset.transforms[1:]))
train_cfg.merge(dict(max_epochs=2))
optim_wrapper.optimizer.merge(dict(lr=6e-4))
first_stage = "lidar_only_simulated.py"
