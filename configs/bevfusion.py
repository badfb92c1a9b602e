# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""BEVFusion, camera + LiDAR detection on nuScenes: the published recipe in two stages.

First 20 epochs of LiDAR alone (bevfusion/lidar_only.py), then this: 6 epochs of both. Published for 8 GPUs with 4
samples each: 68.5 mAP, 71.4 NDS on val. Without the data set, train.py takes the demonstration profile.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.datasets.nuscenes import (
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
    from ._base_.models.bevfusion import model
    from ._base_.schedules.cosine_6_epochs import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

first_stage = "bevfusion/lidar_only.py"
profiles = dict(demo="bevfusion/demo.py")
