# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Frustums of simulated frames in the layout of KITTI's object benchmark, made where they are missing."""

from mmengine.config import read_base

with read_base():
    from .kitti_frustums import data_root, test_cfg, test_dataloader, test_evaluator, train_dataloader

data_root = "data/simulated/kitti_object"
simulation = dict(format="kitti_object", scenes=40, size="full", seed=0)

train_dataloader.dataset.merge(dict(root=data_root, split="sim_train"))
test_dataloader.dataset.merge(dict(root=data_root, split="sim_val"))
