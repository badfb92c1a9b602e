# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""SPVNAS, the super network, trained for tools/search.py on SemanticKITTI.

Published subnets on val: 61.5 mIoU with 20.0 GMACs and 3.3M parameters, 62.9 with 24.6 and 4.5M, 63.5 with 34.7 and
7.0M, 64.7 with 64.5 and 10.8M.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.semantickitti import (
        data_root,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.spvnas import model
    from .._base_.schedules.sgd_15_epochs import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg
