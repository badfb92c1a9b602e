# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""BEVFusion with PointPillars at full size on the simulated set at full size."""

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
    from .._base_.models.bevfusion_pointpillars import _point_range, model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

train_dataloader.dataset.transforms[3].merge(dict(point_range=_point_range))
train_dataloader.dataset.transforms[4].merge(dict(point_range=_point_range))
test_dataloader.dataset.transforms[0].merge(dict(point_range=_point_range))
train_dataloader.merge(dict(batch_size=8))
train_cfg.merge(dict(max_epochs=4))
optim_wrapper.optimizer.merge(dict(lr=1e-3))
