# SPDX-License-Identifier: Apache-2.0
"""Frustums of the labelled 2D boxes of KITTI's object benchmark; ImageSets/train.txt and val.txt list the frames.

Boxes lower than 25 pixels, which the benchmark does not score, are left out; those of training are moved and resized by
up to a tenth of their size. Both as published.
"""

from pcperc.datasets import EpochSampler, KITTIFrustums, collate
from pcperc.evaluation import KITTIMetric

data_root = "data/kitti_object"

train_dataloader = dict(
    dataset=dict(type=KITTIFrustums, root=data_root, split="train", min_height=25.0, box_shift=0.1, transforms=[]),
    sampler=dict(type=EpochSampler),
    batch_size=32,
    drop_last=True,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
test_dataloader = dict(
    dataset=dict(type=KITTIFrustums, root=data_root, split="val", min_height=25.0, transforms=[], test_mode=True),
    sampler=dict(type=EpochSampler, shuffle=False),
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
test_evaluator = dict(type=KITTIMetric)
test_cfg = dict()
