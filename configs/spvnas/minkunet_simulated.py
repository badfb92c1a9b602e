# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""MinkUNet at full width on simulated SemanticKITTI, in minutes on one data-centre GPU. Use --amp."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.semantickitti_simulated import (
        data_root,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.minkunet import model
    from .._base_.schedules.simulated_scans import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg
