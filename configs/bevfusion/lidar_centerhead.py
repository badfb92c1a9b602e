# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""BEVFusion from LiDAR alone with the center head, by the recipe of the LiDAR stage; no figure is published."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.nuscenes_lidar import (
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
    from .._base_.models.bevfusion_lidar_centerhead import model
    from .._base_.schedules.cyclic_20_epochs import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

profiles = dict(demo="lidar_centerhead_demo.py")
