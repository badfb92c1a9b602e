# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""The stages of simulated.py at demonstration size, from random weights: LiDAR, a camera branch, both.

Some minutes on a laptop; they are not enough for good boxes.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.nuscenes_demo import (
        data_root,
        data_version,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.bevfusion_demo import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

model["fuser"]["passes"] = 1  # the LiDAR stage's map, as at full size
train_cfg.merge(dict(max_epochs=4))
optim_wrapper.optimizer.merge(dict(lr=2e-4))
first_stage = dict(lidar_only="lidar_only_demo.py", camera_stage="camera_stage_demo.py")
