# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Simulated rooms in the layout of S3DIS, made where they are missing."""

from mmengine.config import read_base

with read_base():
    from .s3dis import data_root, test_cfg, test_dataloader, test_evaluator, train_dataloader

data_root = "data/simulated/s3dis"
simulation = dict(format="s3dis", rooms=60, size="full", seed=0)

train_dataloader.dataset.merge(dict(root=data_root, split="sim_train"))
test_dataloader.dataset.merge(dict(root=data_root, split="sim_val"))
