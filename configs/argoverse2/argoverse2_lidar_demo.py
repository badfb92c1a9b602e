# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""BEVFusion's LiDAR detector at demonstration size on simulated logs in Argoverse 2's layout; made where missing.

It shows that everything runs, from simulated logs to av2's table: after 60 steps from random weights the detector finds
few objects. More epochs, ``train_cfg.max_epochs=40``, are for a GPU.
"""

from mmengine.config import read_base

from pcperc.datasets import EpochSampler

with read_base():
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, train_cfg
    from .argoverse2_lidar import (
        model,
        seed,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
        val_cfg,
        val_dataloader,
        val_evaluator,
    )

data_root = "data/simulated/argoverse2"
simulation = dict(format="argoverse2", scenes=8, size="small", seed=0)

# At the published 0.01 the statistics of batch norm would be half those of random weights after so short a training.
model.merge(
    dict(
        encoders=dict(lidar=dict(norm_momentum=0.1)),
        decoder=dict(backbone=dict(norm_momentum=0.1), neck=dict(norm_momentum=0.1)),
    )
)
train_dataloader.dataset.merge(dict(root=data_root))
train_dataloader.merge(dict(sampler=dict(_delete_=True, type=EpochSampler), batch_size=2, num_workers=1))
val_dataloader.dataset.merge(dict(root=data_root))
val_dataloader.merge(dict(num_workers=1))
test_dataloader = val_dataloader
val_evaluator.merge(dict(in_map_only=False))  # simulated logs have no maps
test_evaluator = val_evaluator
train_cfg.merge(dict(max_epochs=2))
