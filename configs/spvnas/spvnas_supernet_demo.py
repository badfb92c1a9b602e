# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""SPVNAS at demonstration size on a few simulated scans: up to half of the widths, voxels of 20 cm."""

from mmengine.config import read_base

from pcperc.models.spvnas import SearchSpace

with read_base():
    from .._base_.datasets.semantickitti_demo import (
        data_root,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.spvnas import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

model.merge(
    dict(
        data_preprocessor=dict(voxel_size=0.2),
        backbone=dict(
            space=dict(
                type=SearchSpace,
                max_widths=(16, 16, 32, 64, 96, 96, 64, 48, 48),
                min_widths=(16, 16, 16, 16, 32, 32, 16, 16, 16),
            )
        ),
    )
)
train_cfg.merge(dict(max_epochs=6))
optim_wrapper.optimizer.merge(dict(lr=2e-3))
