# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""PVCNN at demonstration size on a few simulated shapes, for a laptop: a quarter of the width, coarser grids."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.shapenet_part_demo import (
        data_root,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.pvcnn_parts import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

model.merge(dict(data_preprocessor=dict(num_points=512, votes=2), backbone=dict(width=0.25, resolution_scale=0.5)))
train_cfg.merge(dict(max_epochs=24))
optim_wrapper.optimizer.merge(dict(lr=4e-3))
