# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Simulated SemanticKITTI, made where it is missing."""

from mmengine.config import read_base

with read_base():
    from .semantickitti import (
        data_root,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
        val_cfg,
        val_dataloader,
        val_evaluator,
    )

data_root = "data/simulated/semantickitti"
simulation = dict(format="semantickitti", scenes=22, size="full", seed=0)  # of these 11 in sim_test, for searches

train_dataloader.merge(dict(batch_size=4, num_workers=12))
train_dataloader.dataset.merge(dict(root=data_root, split="sim_train"))
val_dataloader.dataset.merge(dict(root=data_root, split="sim_val"))
test_dataloader = val_dataloader
