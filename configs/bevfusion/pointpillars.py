# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""BEVFusion from LiDAR alone with PointPillars, by the recipe of the LiDAR stage, within 51.2 m."""

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
    from .._base_.models.bevfusion_pointpillars import _point_range, model
    from .._base_.schedules.cyclic_20_epochs import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

train_dataloader.dataset.transforms[3].merge(dict(point_range=_point_range))
train_dataloader.dataset.transforms[4].merge(dict(point_range=_point_range))
val_dataloader.dataset.transforms[0].merge(dict(point_range=_point_range))
test_dataloader = val_dataloader
profiles = dict(demo="pointpillars_demo.py")
