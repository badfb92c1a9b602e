# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Calo-SPVCNN with offsets to the middle of each shower, clustered by mean shift within each predicted class.

At half width as the others of this folder; published at full width.
"""

from mmengine.config import read_base

from pcperc.models.calorimeter import CentreOffset

with read_base():
    from .spvcnn_condensation import (
        data_root,
        default_hooks,
        model,
        optim_wrapper,
        param_scheduler,
        seed,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_cfg,
        train_dataloader,
    )

model.backbone.merge(dict(embedding_channels=3))
model["grouping"] = dict(type=CentreOffset)
