# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""The small simulated set for map segmentation at demonstration size: masks of 100 x 100 cells of 1 m."""

from mmengine.config import read_base

from pcperc.evaluation import MapMetric
from pcperc.transforms import DrawMapMasks

with read_base():
    from .nuscenes_demo import data_root, data_version, simulation, test_cfg, test_dataloader, train_dataloader

_masks = dict(type=DrawMapMasks, x_bound=(-50.0, 50.0, 1.0), y_bound=(-50.0, 50.0, 1.0))

# Drawn after the augmentation of the scene and before what is done to the points alone.
train_dataloader.dataset.merge(
    dict(
        with_map=True,
        transforms=[
            *train_dataloader.dataset.transforms[:3],
            _masks,
            *train_dataloader.dataset.transforms[3:],
        ],
    )
)
test_dataloader.dataset.merge(
    dict(
        with_map=True,
        transforms=[*test_dataloader.dataset.transforms[:1], _masks, *test_dataloader.dataset.transforms[1:]],
    )
)
test_evaluator = dict(type=MapMetric)
