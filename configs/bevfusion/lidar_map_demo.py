# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Map segmentation from LiDAR alone at demonstration size on the small simulated set, for a laptop."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.nuscenes_map_demo import (
        data_root,
        data_version,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.bevfusion_lidar_map_demo import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

train_dataloader.dataset.merge(dict(modalities=("lidar",), transforms=train_dataloader.dataset.transforms[1:]))
test_dataloader.dataset.merge(dict(modalities=("lidar",), transforms=test_dataloader.dataset.transforms[1:]))

train_cfg.merge(dict(max_epochs=4))
optim_wrapper.optimizer.merge(dict(lr=2e-3))
