# SPDX-License-Identifier: Apache-2.0
"""S3DIS as the published h5 blocks: each of all areas but the fifth once an epoch, and every one of the fifth."""

from pcperc.datasets import EpochSampler, S3DISBlocks, collate
from pcperc.evaluation import S3DISMetric

data_root = "data/s3dis/pointcnn"

train_dataloader = dict(
    dataset=dict(type=S3DISBlocks, root=data_root, split="train", transforms=[]),
    sampler=dict(type=EpochSampler),
    batch_size=32,
    drop_last=True,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
test_dataloader = dict(
    dataset=dict(type=S3DISBlocks, root=data_root, split="val", transforms=[], test_mode=True),
    sampler=dict(type=EpochSampler, shuffle=False),
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
test_evaluator = dict(type=S3DISMetric, votes="highest")
test_cfg = dict()
