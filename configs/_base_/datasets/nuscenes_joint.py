# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""nuScenes for boxes and map together: the detector's data with true masks, and both evaluations."""

from mmengine.config import read_base

from pcperc.evaluation import MapMetric
from pcperc.transforms import DrawMapMasks

with read_base():
    from .nuscenes import (
        data_root,
        data_version,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
        val_cfg,
        val_dataloader,
        val_evaluator,
    )

# Drawn after the augmentation of the scene and before what is done to the points alone.
train_dataloader.dataset.merge(
    dict(
        with_map=True,
        transforms=[
            *train_dataloader.dataset.transforms[:3],
            dict(type=DrawMapMasks, as_published=True),
            *train_dataloader.dataset.transforms[3:],
        ],
    )
)
val_dataloader.dataset.merge(
    dict(
        with_map=True,
        transforms=[
            *val_dataloader.dataset.transforms[:1],
            dict(type=DrawMapMasks, as_published=True),
            *val_dataloader.dataset.transforms[1:],
        ],
    )
)
test_dataloader = val_dataloader
val_evaluator = [val_evaluator, dict(type=MapMetric)]
test_evaluator = val_evaluator
