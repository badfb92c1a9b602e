# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Calo-SPVCNN at demonstration size, for a laptop: a quarter of SPVCNN's width, voxels of 2 cm, tiny simulated events.

The networks at full size, and the baseline, are in calo/.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.datasets.calorimeter_simulated import (
        data_root,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from ._base_.models.calo_spvcnn import model
    from ._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

data_root = "data/simulated/calorimeter_demo"
simulation.merge(dict(events=40, size="tiny"))
train_dataloader.dataset.merge(dict(root=data_root))
train_dataloader.merge(dict(batch_size=4, num_workers=1))
test_dataloader.dataset.merge(dict(root=data_root))
test_dataloader.merge(dict(num_workers=1))
model.merge(dict(data_preprocessor=dict(voxel_size=2.0), backbone=dict(width=0.25)))
train_cfg.merge(dict(max_epochs=6))
optim_wrapper.optimizer.merge(dict(lr=3e-3))
