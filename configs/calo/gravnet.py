# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""GravNet (0.42M parameters), the baseline of spvcnn_condensation.py: same events, losses, optimiser and schedule.

Both are clustered by condensation, each at the radius that is published with it: 1.0 here, 0.7 there.
"""

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
    from .._base_.models.gravnet import model
    from .._base_.schedules.calorimeter import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg
