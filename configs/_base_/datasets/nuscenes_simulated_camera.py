# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""The simulated set at full size for the camera-only detector."""

from mmengine.config import read_base

with read_base():
    from .nuscenes_camera import (
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
        val_cfg,
        val_dataloader,
        val_evaluator,
    )
    from .nuscenes_simulated import data_root, data_version, simulation

train_dataloader.dataset.merge(dict(root=data_root, version=data_version, split="sim_train"))
train_dataloader.merge(dict(num_workers=12))
val_dataloader.dataset.merge(dict(root=data_root, version=data_version, split="sim_val"))
val_dataloader.merge(dict(num_workers=12))
test_dataloader = val_dataloader
