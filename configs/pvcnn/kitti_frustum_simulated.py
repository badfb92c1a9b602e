# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""F-PVCNN on simulated frames, in minutes on one data-centre GPU."""

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

train_cfg.merge(dict(max_epochs=40))
