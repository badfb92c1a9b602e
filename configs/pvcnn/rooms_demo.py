# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""PVCNN at demonstration size on a few simulated rooms, for a laptop."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.s3dis_simulated import (
        data_root,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.pvcnn_rooms import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

data_root = "data/simulated/s3dis_demo"
simulation.merge(dict(rooms=12, size="small"))
train_dataloader.dataset.merge(dict(root=data_root))
train_dataloader.merge(dict(batch_size=2, num_workers=1))
test_dataloader.dataset.merge(dict(root=data_root))
test_dataloader.merge(dict(num_workers=1))
model.merge(dict(data_preprocessor=dict(num_points=1024, blocks=4), backbone=dict(width=0.25, resolution_scale=0.5)))
train_cfg.merge(dict(max_epochs=4))
optim_wrapper.optimizer.merge(dict(lr=4e-3))
