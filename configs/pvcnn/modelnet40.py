# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""PVCNN with a classification head on ModelNet40: a category for each shape. Nothing of the kind was published."""

from mmengine.config import read_base

from pcperc.datasets import EpochSampler, ModelNet40, collate
from pcperc.evaluation import ClassificationMetric
from pcperc.models import CloudClassifier, ShapePreprocessor
from pcperc.models.pvcnn import pvcnn_modelnet

with read_base():
    from .._base_.schedules.adam_cosine import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

data_root = "data/modelnet40"
model = dict(
    type=CloudClassifier,
    data_preprocessor=dict(type=ShapePreprocessor, num_points=1024, num_categories=0, replace=False),
    backbone=dict(type=pvcnn_modelnet),
)
train_dataloader = dict(
    dataset=dict(type=ModelNet40, root=data_root, split="train", transforms=[]),
    sampler=dict(type=EpochSampler),
    batch_size=32,
    drop_last=True,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=collate),
)
test_dataloader = dict(
    dataset=dict(type=ModelNet40, root=data_root, split="test", transforms=[], test_mode=True),
    sampler=dict(type=EpochSampler, shuffle=False),
    batch_size=16,
    num_workers=4,
    collate_fn=dict(type=collate),
)
test_evaluator = dict(type=ClassificationMetric)
test_cfg = dict()
