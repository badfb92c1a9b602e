# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Both branches from random weights; simulated.py goes on with the camera branch, as published with nuImages' weights.

Beside a LiDAR branch that was trained before, which knows a small training set by heart, a random camera branch learns
nothing, and alone it learns slowly. Beside one that begins as it does, it learns early where to look. The image head,
which is dropped behind this stage, asks the camera features for classes, headings and depths
directly.
"""

from mmengine.config import read_base

from pcperc.models.bevfusion import ImageHead

with read_base():
    from .._base_.datasets.nuscenes_simulated import (
        data_root,
        data_version,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.bevfusion import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

model["fuser"]["passes"] = None  # no branch is ahead of the other
_box_coder = model["heads"]["object"]["box_coder"]
_depth_bound = model["encoders"]["camera"]["view_transform"]["depth_bound"]
model["image_head"] = dict(
    type=ImageHead, in_channels=256, num_classes=10, box_coder=_box_coder, depth_bound=_depth_bound
)
train_dataloader.merge(dict(batch_size=8))
train_cfg.merge(dict(max_epochs=3))
optim_wrapper.optimizer.merge(dict(lr=6e-4))
