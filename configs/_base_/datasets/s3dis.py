# SPDX-License-Identifier: Apache-2.0
"""S3DIS: whole rooms of all areas but the fifth, ten times an epoch, and every room of the fifth."""

from pcperc.datasets import S3DIS, EpochSampler, collate
from pcperc.evaluation import S3DISMetric

data_root = "data/s3dis"

train_dataloader = dict(
    dataset=dict(type=S3DIS, root=data_root, split="train", block=None, transforms=[]),
    sampler=dict(type=EpochSampler, repeats=10),
    batch_size=4,
    drop_last=True,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
test_dataloader = dict(
    dataset=dict(type=S3DIS, root=data_root, split="val", block=None, transforms=[], test_mode=True),
    sampler=dict(type=EpochSampler, shuffle=False),
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
test_evaluator = dict(type=S3DISMetric)
test_cfg = dict()
