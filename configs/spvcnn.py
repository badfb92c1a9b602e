# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""SPVCNN, a class for every point of SemanticKITTI: the published recipe at full width.

21.8M parameters; published: 118.6 GMACs, 63.8 mIoU on val, with 8 GPUs and 2 scans each. Without the data set, train.py
takes the demonstration profile. Other widths, MinkUNet and SPVNAS are in spvnas/.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.datasets.semantickitti import (
        data_root,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from ._base_.models.spvcnn import model
    from ._base_.schedules.sgd_15_epochs import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

profiles = dict(demo="spvnas/spvcnn_demo.py")
