# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""nuScenes-lidarseg: the key sweeps of nuScenes with a class for each point, augmented as SemanticKITTI is."""

from mmengine.config import read_base

from pcperc.datasets import NuScenesLidarSeg
from pcperc.evaluation import LidarSegMetric

with read_base():
    from .semantickitti import test_cfg, test_dataloader, train_dataloader, val_cfg, val_dataloader

data_root = "data/nuscenes"
data_version = "v1.0-trainval"

train_dataloader.merge(
    dict(
        dataset=dict(
            _delete_=True,
            type=NuScenesLidarSeg,
            root=data_root,
            version=data_version,
            split="train",
            transforms=train_dataloader.dataset.transforms,
        )
    )
)
val_dataloader.merge(
    dict(
        dataset=dict(
            _delete_=True,
            type=NuScenesLidarSeg,
            root=data_root,
            version=data_version,
            split="val",
            transforms=[],
            test_mode=True,
        )
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(type=LidarSegMetric)
test_evaluator = val_evaluator
