# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Boxes and map from LiDAR alone at demonstration size, on the tiny data set of the tests; it must be moved there."""

from mmengine.config import read_base

from pcperc.evaluation import MapMetric, NuScenesMetric

with read_base():
    from ...configs._base_.datasets.nuscenes_map_demo import (
        data_root,
        data_version,
        test_cfg,
        test_dataloader,
        train_dataloader,
    )
    from ...configs._base_.models.bevfusion_joint_demo import model
    from ...configs._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

data_version = "v1.0-tiny"
model["encoders"].pop("camera")
model.pop("fuser")
for _loader in (train_dataloader, test_dataloader):
    _loader.dataset.merge(
        dict(version=data_version, modalities=("lidar",), num_sweeps=0, transforms=_loader.dataset.transforms[1:])
    )
    _loader.merge(dict(num_workers=0, persistent_workers=False, pin_memory=False, batch_size=1))
test_evaluator = [dict(type=NuScenesMetric), dict(type=MapMetric)]
train_cfg.merge(dict(max_epochs=1))
