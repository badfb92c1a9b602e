# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""SPVCNN at full width learns one scan by heart; tests/test_overfit_scan.py writes a real one as a data set."""

from mmengine.config import read_base

from pcperc.datasets import EpochSampler

with read_base():
    from .._base_.datasets.semantickitti import data_root, test_cfg, test_dataloader, test_evaluator, train_dataloader
    from .._base_.models.spvcnn import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

data_root = "data/semantickitti_scan"
train_dataloader.merge(
    dict(
        sampler=dict(_delete_=True, type=EpochSampler, repeats=150),
        batch_size=1,
        num_workers=2,
    )
)
train_dataloader.dataset.merge(dict(root=data_root, split="seen", transforms=[]))
test_dataloader.dataset.merge(dict(root=data_root, split="seen"))
test_dataloader.merge(dict(num_workers=1))
model.data_preprocessor.merge(dict(max_voxels=None))
train_cfg.merge(dict(max_epochs=4))
optim_wrapper.optimizer.merge(dict(lr=2e-3))
