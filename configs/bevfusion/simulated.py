# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""BEVFusion at full size on the simulated set at full size, in minutes on one data-centre GPU.

LiDAR first (lidar_only_simulated.py), then a camera branch (camera_stage_simulated.py), each from random weights; then
the two together. lidar_longer_simulated.py is the same without cameras. Use --amp.
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

train_dataloader.merge(dict(batch_size=8))
train_cfg.merge(dict(max_epochs=2))
optim_wrapper.optimizer.merge(dict(lr=6e-4))
first_stage = dict(lidar_only="lidar_only_simulated.py", camera_stage="camera_stage_simulated.py")
