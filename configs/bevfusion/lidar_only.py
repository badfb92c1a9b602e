# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""BEVFusion from LiDAR alone (TransFusion-L): the published first stage; published 64.7 mAP, 69.3 NDS."""

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
    from .._base_.models.bevfusion_lidar import model
    from .._base_.schedules.cyclic_20_epochs import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg
