# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""The small simulated set for the camera-only detector at demonstration size."""

from mmengine.config import read_base

from pcperc.datasets import EpochSampler

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
    from .nuscenes_demo import data_root, data_version, simulation

train_dataloader.dataset.merge(dict(root=data_root, version=data_version, split="sim_train"))
train_dataloader.dataset.transforms[0].merge(dict(final_size=(128, 352)))
train_dataloader.merge(dict(sampler=dict(_delete_=True, type=EpochSampler), batch_size=2, num_workers=1))
val_dataloader.dataset.merge(dict(root=data_root, version=data_version, split="sim_val"))
val_dataloader.dataset.transforms[0].merge(dict(final_size=(128, 352)))
val_dataloader.merge(dict(num_workers=1))
test_dataloader = val_dataloader
