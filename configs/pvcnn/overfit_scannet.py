# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""PVCNN++ at half the width learns one real scan by heart; scene0000_01 is a second scan of the same room."""

from mmengine.config import read_base

from pcperc.datasets import EpochSampler, ScanNet, collate
from pcperc.evaluation import S3DISMetric
from pcperc.models.pvcnn import pvcnn2_s3dis

with read_base():
    from .._base_.models.pvcnn_rooms import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

data_root = "data/scannet"
train_dataloader = dict(
    dataset=dict(type=ScanNet, root=data_root, scans=["scene0000_00"], block=None, transforms=[]),
    sampler=dict(type=EpochSampler, repeats=100),
    batch_size=1,
    num_workers=2,
    collate_fn=dict(type=collate),
)
test_dataloader = dict(
    dataset=dict(type=ScanNet, root=data_root, scans=["scene0000_00"], block=None, transforms=[], test_mode=True),
    sampler=dict(type=EpochSampler, shuffle=False),
    batch_size=1,
    num_workers=0,
    collate_fn=dict(type=collate),
)
test_evaluator = dict(type=S3DISMetric)
test_cfg = dict()
model.merge(dict(data_preprocessor=dict(num_points=8192), backbone=dict(type=pvcnn2_s3dis, num_classes=20, width=0.5)))
train_cfg.merge(dict(max_epochs=10))
optim_wrapper.optimizer.merge(dict(lr=2e-3))
