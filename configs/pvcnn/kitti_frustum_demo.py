# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""F-PVCNN at demonstration size on a few simulated frames, for a laptop."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.kitti_frustums_simulated import (
        data_root,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.frustum_pvcnn import model
    from .._base_.schedules.adam_cosine import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

data_root = "data/simulated/kitti_object_demo"
simulation.merge(dict(scenes=8, size="small"))
train_dataloader.dataset.merge(dict(root=data_root))
train_dataloader.merge(dict(batch_size=8, num_workers=1))
test_dataloader.dataset.merge(dict(root=data_root))
test_dataloader.merge(dict(batch_size=8, num_workers=1))
model.merge(dict(data_preprocessor=dict(num_points=256), network=dict(width=0.25)))
train_cfg.merge(dict(max_epochs=12))
optim_wrapper.optimizer.merge(dict(lr=1e-3))
