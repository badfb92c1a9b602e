# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""SPVCNN at full width, with the voxels, rows and labels that the published (converted) weights expect."""

from mmengine.config import read_base

with read_base():
    from .spvcnn_cr1 import (
        data_root,
        default_hooks,
        model,
        optim_wrapper,
        param_scheduler,
        seed,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_cfg,
        train_dataloader,
    )

model.merge(dict(data_preprocessor=dict(points="one_per_voxel", rounding="round"), backbone=dict(quantized=True)))
train_dataloader.dataset.merge(dict(label_map="spvnas"))
test_dataloader.dataset.merge(dict(label_map="spvnas"))
