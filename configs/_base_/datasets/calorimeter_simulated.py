# SPDX-License-Identifier: Apache-2.0
"""Simulated calorimeter showers (GFlash), made where they are missing; their split is drawn by the seed beforehand."""

from pcperc.datasets import CalorimeterHits, EpochSampler, collate
from pcperc.evaluation import CalorimeterMetric

data_root = "data/simulated/calorimeter"
simulation = dict(format="calorimeter", events=240, size="small", seed=0)

train_dataloader = dict(
    dataset=dict(type=CalorimeterHits, root=data_root, split="sim_train", transforms=[]),
    sampler=dict(type=EpochSampler),
    batch_size=2,
    drop_last=True,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
test_dataloader = dict(
    dataset=dict(type=CalorimeterHits, root=data_root, split="sim_test", transforms=[], test_mode=True),
    sampler=dict(type=EpochSampler, shuffle=False),
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
test_evaluator = dict(type=CalorimeterMetric)
test_cfg = dict()
