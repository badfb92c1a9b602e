# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""BEVFusion from LiDAR alone at full size on the simulated set at full size: the published cycle in 10 epochs.

A shorter one learns no headings, and the stage behind it then learns those, whatever it adds.
"""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, CosineAnnealingMomentum

with read_base():
    from .._base_.datasets.nuscenes_simulated_lidar import (
        data_root,
        data_version,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.bevfusion_lidar import model
    from .._base_.schedules.cyclic_20_epochs import default_hooks, optim_wrapper, seed, train_cfg

train_dataloader.merge(dict(batch_size=8))
train_dataloader.dataset.transforms[0].merge(dict(stop_epoch=7))
train_cfg.merge(dict(max_epochs=10))
param_scheduler = [
    dict(type=CosineAnnealingLR, eta_min_ratio=10.0, T_max=4, begin=0, end=4, convert_to_iter_based=True),
    dict(type=CosineAnnealingLR, eta_min_ratio=1e-4, T_max=6, begin=4, end=10, convert_to_iter_based=True),
    dict(type=CosineAnnealingMomentum, eta_min=0.9 * 0.85 / 0.95, T_max=4, begin=0, end=4, convert_to_iter_based=True),
    dict(type=CosineAnnealingMomentum, eta_min=0.9, T_max=6, begin=4, end=10, convert_to_iter_based=True),
]
default_hooks.checkpoint.merge(dict(interval_iters=100, keep=1))
