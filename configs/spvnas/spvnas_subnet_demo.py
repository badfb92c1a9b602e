# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Fine-tunes a subnet of the demonstration's super network; see spvnas_subnet.py."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.semantickitti_demo import (
        data_root,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.spvcnn import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

model.merge(dict(data_preprocessor=dict(voxel_size=0.2)))
subnet = None  # --subnet puts its channels and depths into model.backbone
train_cfg.merge(dict(max_epochs=2))
optim_wrapper.optimizer.merge(dict(lr=5e-4))
