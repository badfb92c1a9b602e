# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Both branches from random weights at demonstration size; demo_from_scratch.py goes on with the camera branch."""

from mmengine.config import read_base

from pcperc.models.bevfusion import ImageHead

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

_box_coder = model["heads"]["object"]["box_coder"]
_depth_bound = model["encoders"]["camera"]["view_transform"]["depth_bound"]
model["image_head"] = dict(
    type=ImageHead, in_channels=48, num_classes=10, box_coder=_box_coder, depth_bound=_depth_bound
)
train_cfg.merge(dict(max_epochs=4))
