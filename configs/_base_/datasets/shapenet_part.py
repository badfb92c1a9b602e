# SPDX-License-Identifier: Apache-2.0
"""ShapeNet-Part: trained on train and val, tested on test, as published; augmented by the model's preprocessor."""

from pcperc.datasets import EpochSampler, ShapeNetPart, collate
from pcperc.evaluation import ShapeNetPartMetric

data_root = "data/shapenet_part"

train_dataloader = dict(
    dataset=dict(type=ShapeNetPart, root=data_root, split="trainval", transforms=[]),
    sampler=dict(type=EpochSampler),
    batch_size=32,
    drop_last=True,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
test_dataloader = dict(
    dataset=dict(type=ShapeNetPart, root=data_root, split="test", transforms=[], test_mode=True),
    sampler=dict(type=EpochSampler, shuffle=False),
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
test_evaluator = dict(type=ShapeNetPartMetric)
test_cfg = dict()
