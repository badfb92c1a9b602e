# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""BEVFusion from camera and LiDAR with the center head, in two stages; no figure is published."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.nuscenes import (
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
    from .._base_.models.bevfusion_centerhead import model
    from .._base_.schedules.cosine_6_epochs import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

first_stage = "lidar_centerhead.py"
