# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""BEVFusion, map segmentation from cameras alone on nuScenes: the published recipe; published 57.1 mIoU on val."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.nuscenes_map_camera import (
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
    from .._base_.models.bevfusion_camera_map import model
    from .._base_.schedules.cyclic_20_epochs import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

# As published, but for LiDAR alone, which has no such tables.
optim_wrapper["paramwise_cfg"] = dict(custom_keys={"relative_position_bias_table": dict(decay_mult=0.0)})
profiles = dict(demo="camera_map_demo.py")
