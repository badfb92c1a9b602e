# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""The small simulated set for the demonstration's LiDAR stage."""

from mmengine.config import read_base

from pcperc.datasets import EpochSampler

with read_base():
    from .nuscenes_demo import data_root, data_version, simulation
    from .nuscenes_lidar import (
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
        val_cfg,
        val_dataloader,
        val_evaluator,
    )

train_dataloader.dataset.merge(dict(root=data_root, version=data_version, split="sim_train", num_sweeps=2))
train_dataloader.dataset.transforms[0].merge(
    # The database holds ten sweeps; with three for each 0.5 s, the two older ones are younger than this.
    dict(database=f"{data_root}/pcperc/{data_version}/sim_train_gt_database", max_time_lag=0.45, stop_epoch=None)
)
train_dataloader.merge(dict(sampler=dict(_delete_=True, type=EpochSampler), batch_size=2, num_workers=1))
val_dataloader.dataset.merge(dict(root=data_root, version=data_version, split="sim_val", num_sweeps=2))
val_dataloader.merge(dict(num_workers=1))
test_dataloader = val_dataloader
