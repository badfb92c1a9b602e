# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Calo-SPVCNN (5.74M parameters) with condensation clustering on simulated showers (GFlash)."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.calorimeter_simulated import (
        data_root,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.calo_spvcnn import model
    from .._base_.schedules.calorimeter import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg
