# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""BEVFusion's LiDAR detector on Argoverse 2: 26 categories, three sweeps, the narrow network of the demonstration.

Nothing is published for this network on this data; it is a start. Points are in the vehicle's frame, whose origin is
near the road, so that the box of space is 2 m higher than nuScenes'.
"""

from mmengine.config import read_base

from pcperc.datasets import Argoverse2, ClassBalancedSampler, EpochSampler, collate
from pcperc.evaluation import Argoverse2Metric
from pcperc.transforms import (
    BoxesRangeFilter,
    GlobalScaleRotateTranslate,
    PointsRangeFilter,
    RandomFlip3D,
    ShufflePoints,
)

with read_base():
    from .._base_.models.bevfusion_lidar_demo import model
    from .._base_.schedules.cyclic_20_epochs import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

data_root = "data/argoverse2"
_point_range = (-54.0, -54.0, -3.0, 54.0, 54.0, 5.0)

model.merge(
    dict(
        data_preprocessor=dict(voxelizer=dict(point_range=_point_range)),
        heads=dict(
            object=dict(
                num_classes=26,
                # Categories of whom several stand in neighbouring cells: bollards, cones, pedestrians, signs.
                crowded_classes=(3, 6, 7, 14, 17, 18),
                box_coder=dict(point_range=_point_range),
                criterion=dict(assigner=dict(point_range=_point_range)),
            )
        ),
    )
)
train_dataloader = dict(
    dataset=dict(
        type=Argoverse2,
        root=data_root,
        split="train",
        num_sweeps=2,
        transforms=[
            dict(type=GlobalScaleRotateTranslate),
            dict(type=RandomFlip3D),
            dict(type=PointsRangeFilter, point_range=_point_range),
            dict(type=BoxesRangeFilter, point_range=_point_range),
            dict(type=ShufflePoints),
        ],
    ),
    sampler=dict(type=ClassBalancedSampler),
    batch_size=4,
    drop_last=True,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
val_dataloader = dict(
    dataset=dict(
        type=Argoverse2,
        root=data_root,
        split="val",
        num_sweeps=2,
        transforms=[dict(type=PointsRangeFilter, point_range=_point_range)],
        test_mode=True,
    ),
    sampler=dict(type=EpochSampler, shuffle=False),
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=Argoverse2Metric, in_map_only=True)
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
profiles = dict(demo="lidar_demo.py")
