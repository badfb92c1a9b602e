# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""SPVCNN at half the width on a few scans, by place alone (no intensity), scored on one from elsewhere.

tests/test_overfit_scan.py writes the real scans.
"""

from mmengine.config import read_base

from pcperc.datasets import EpochSampler
from pcperc.transforms import GlobalScaleRotateTranslate

with read_base():
    from .._base_.datasets.semantickitti import data_root, test_cfg, test_dataloader, test_evaluator, train_dataloader
    from .._base_.models.spvcnn import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

data_root = "data/semantickitti_scans"
train_dataloader.merge(dict(sampler=dict(_delete_=True, type=EpochSampler, repeats=100), batch_size=2))
train_dataloader.dataset.merge(dict(root=data_root, split="seen"))
test_dataloader.dataset.merge(dict(root=data_root, split="elsewhere"))
test_dataloader.merge(dict(num_workers=1))
model.merge(dict(data_preprocessor=dict(voxel_size=0.1, columns=(0, 1, 2)), backbone=dict(in_channels=3, width=0.5)))
train_cfg.merge(dict(max_epochs=2))
optim_wrapper.optimizer.merge(dict(lr=2e-3))
