# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""BEVFusion's LiDAR detector on Argoverse 2: 26 categories, three sweeps, the narrow network of the demonstration.

Nothing is published for this network on this data; it is a start.
"""

from mmengine.config import read_base

from pcperc.datasets import Argoverse2
from pcperc.evaluation import Argoverse2Metric

with read_base():
    from .._base_.datasets.vehicle_lidar import test_cfg, train_dataloader, val_cfg, val_dataloader
    from .._base_.models.bevfusion_vehicle_lidar_demo import model
    from .._base_.schedules.cyclic_20_epochs import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

data_root = "data/argoverse2"

# Categories of whom several stand in neighbouring cells: bollards, cones, pedestrians, signs.
model.merge(dict(heads=dict(object=dict(num_classes=26, crowded_classes=(3, 6, 7, 14, 17, 18)))))
train_dataloader.dataset.merge(dict(type=Argoverse2, root=data_root, split="train"))
val_dataloader.dataset.merge(dict(type=Argoverse2, root=data_root, split="val"))
test_dataloader = val_dataloader
val_evaluator = dict(type=Argoverse2Metric, in_map_only=True)
test_evaluator = val_evaluator
profiles = dict(demo="argoverse2_lidar_demo.py")
