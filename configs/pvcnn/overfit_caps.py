# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""PVCNN at a quarter of the width learns a few real shapes by heart; tests/test_overfit_clouds.py writes five caps."""

from mmengine.config import read_base

from pcperc.datasets import EpochSampler

with read_base():
    from .._base_.datasets.shapenet_part import data_root, test_cfg, test_dataloader, test_evaluator, train_dataloader
    from .._base_.models.pvcnn_parts import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

data_root = "data/shapenet_caps"
train_dataloader.dataset.merge(dict(root=data_root, split="all"))
train_dataloader.merge(
    dict(
        sampler=dict(_delete_=True, type=EpochSampler, repeats=20),
        batch_size=5,
        num_workers=0,
        persistent_workers=False,
    )
)
test_dataloader.dataset.merge(dict(root=data_root, split="all"))
test_dataloader.merge(dict(batch_size=5, num_workers=0, persistent_workers=False))
model.merge(dict(data_preprocessor=dict(votes=2, jitter=(0.0, 0.0)), backbone=dict(width=0.25)))
train_cfg.merge(dict(max_epochs=15))
optim_wrapper.optimizer.merge(dict(lr=4e-3))
