# SPDX-License-Identifier: Apache-2.0
"""LiDAR in the vehicle's frame, three sweeps a sample; a config adds the data set's ``type``, ``root`` and splits."""

from pcperc.datasets import ClassBalancedSampler, EpochSampler, collate
from pcperc.transforms import (
    BoxesRangeFilter,
    GlobalScaleRotateTranslate,
    PointsRangeFilter,
    RandomFlip3D,
    ShufflePoints,
)

_point_range = (-54.0, -54.0, -3.0, 54.0, 54.0, 5.0)

train_dataloader = dict(
    dataset=dict(
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
val_cfg = dict()
test_cfg = dict()
