# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""BEVFusion from camera and LiDAR with the center head at full size on the simulated set at full size. Use --amp.

As simulated.py, behind a LiDAR stage with the same head and the camera stage that all have.
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
    from .._base_.models.bevfusion_centerhead import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

train_dataloader.merge(dict(batch_size=8))
train_cfg.merge(dict(max_epochs=2))
optim_wrapper.optimizer.merge(dict(lr=6e-4))
first_stage = dict(lidar_centerhead="lidar_centerhead_simulated.py", camera_stage="camera_stage_simulated.py")
