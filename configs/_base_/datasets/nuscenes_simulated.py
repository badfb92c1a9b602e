# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""The simulated set at full size: 40 scenes with ten sweeps a sample and images of 900 x 1600, made where missing."""

from mmengine.config import read_base

with read_base():
    from .nuscenes import (
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

data_root = "data/simulated/nuscenes_full"
data_version = "v1.0-sim"
simulation = dict(scenes=40, size="full", seed=0)

train_dataloader.dataset.merge(dict(root=data_root, version=data_version, split="sim_train"))
train_dataloader.merge(dict(num_workers=12))
val_dataloader.dataset.merge(dict(root=data_root, version=data_version, split="sim_val"))
val_dataloader.merge(dict(num_workers=12))
test_dataloader = val_dataloader
