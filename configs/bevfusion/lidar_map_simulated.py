# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Map segmentation from LiDAR alone at full size on the simulated set, on one data-centre GPU. Use --amp.

From random weights, with the schedule that all three have.
"""

from mmengine.config import read_base

from pcperc.datasets import EpochSampler

with read_base():
    from .._base_.datasets.nuscenes_map_lidar import test_cfg, test_dataloader, test_evaluator, train_dataloader
    from .._base_.datasets.nuscenes_simulated import data_root, data_version, simulation
    from .._base_.models.bevfusion_lidar_map import model
    from .._base_.schedules.simulated_maps import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

train_dataloader.merge(dict(sampler=dict(_delete_=True, type=EpochSampler), batch_size=8, num_workers=12))
train_dataloader.dataset.merge(dict(root=data_root, version=data_version, split="sim_train"))
test_dataloader.merge(dict(num_workers=12))
test_dataloader.dataset.merge(dict(root=data_root, version=data_version, split="sim_val"))
