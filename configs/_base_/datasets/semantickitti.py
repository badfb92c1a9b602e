# SPDX-License-Identifier: Apache-2.0
"""SemanticKITTI: the published split by sequences, scans turned all around and scaled by up to 5 percent."""

from pcperc.datasets import EpochSampler, SemanticKITTI, collate
from pcperc.evaluation import SemanticKITTIMetric
from pcperc.transforms import GlobalScaleRotateTranslate

data_root = "data/semantickitti"

train_dataloader = dict(
    dataset=dict(
        type=SemanticKITTI,
        root=data_root,
        split="train",
        label_map="official",
        transforms=[
            dict(
                type=GlobalScaleRotateTranslate,
                scale_range=(0.95, 1.05),
                rotate_range=(-3.1415926, 3.1415926),
                translate_std=0.0,
            ),
        ],
    ),
    sampler=dict(type=EpochSampler),
    batch_size=2,
    drop_last=True,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
val_dataloader = dict(
    dataset=dict(type=SemanticKITTI, root=data_root, split="val", label_map="official", transforms=[], test_mode=True),
    sampler=dict(type=EpochSampler, shuffle=False),
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=SemanticKITTIMetric)
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
