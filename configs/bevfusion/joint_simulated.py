# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Both heads at full size on the simulated set at full size, behind the first stages of simulated.py. Use --amp."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.nuscenes_joint import test_cfg, test_dataloader, test_evaluator, train_dataloader
    from .._base_.datasets.nuscenes_simulated import data_root, data_version, simulation
    from .._base_.models.bevfusion_joint import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

train_dataloader.merge(dict(batch_size=8, num_workers=12))
train_dataloader.dataset.merge(dict(root=data_root, version=data_version, split="sim_train"))
test_dataloader.merge(dict(num_workers=12))
test_dataloader.dataset.merge(dict(root=data_root, version=data_version, split="sim_val"))
train_cfg.merge(dict(max_epochs=3))
optim_wrapper.optimizer.merge(dict(lr=6e-4))
first_stage = dict(lidar_only="lidar_only_simulated.py", camera_stage="camera_stage_simulated.py")
