# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Calo-SPVCNN as first published: an embedding of 8 channels, clustered by mean shift within each predicted class."""

from mmengine.config import read_base

from pcperc.models.calorimeter import DiscriminativeEmbedding

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

model.backbone.merge(dict(embedding_channels=8))
model["grouping"] = dict(type=DiscriminativeEmbedding, dims=8)
