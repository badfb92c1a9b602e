# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Simulated shapes in the layout of ShapeNet-Part, made where they are missing."""

from mmengine.config import read_base

with read_base():
    from .shapenet_part import data_root, test_cfg, test_dataloader, test_evaluator, train_dataloader

data_root = "data/simulated/shapenet_part"
simulation = dict(format="shapenet_part", shapes=3200, size="full", seed=0)

train_dataloader.dataset.merge(dict(root=data_root, split="sim_train"))
test_dataloader.dataset.merge(dict(root=data_root, split="sim_test"))
