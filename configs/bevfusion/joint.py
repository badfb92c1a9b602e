# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""BEVFusion with a head for boxes and one for the map, trained together on nuScenes; the two stages of the detector.

No figure of this arrangement is published with its recipe. `--eval nuscenes` and `--eval map` score one head alone.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.nuscenes_joint import (
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
    from .._base_.models.bevfusion_joint import model
    from .._base_.schedules.cosine_6_epochs import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

first_stage = "lidar_only.py"
profiles = dict(demo="joint_demo.py")
