# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""BEVFusion's LiDAR detector on Waymo: three classes, three frames, the narrow network of the demonstration.

Nothing is published for this network on this data; it is a start.
"""

from mmengine.config import read_base

from pcperc.datasets import Waymo
from pcperc.evaluation import WaymoMetric
from pcperc.transforms import SquashIntensity

with read_base():
    from .._base_.datasets.vehicle_lidar import test_cfg, train_dataloader, val_cfg, val_dataloader
    from .._base_.models.bevfusion_vehicle_lidar_demo import model
    from .._base_.schedules.cyclic_20_epochs import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

data_root = "data/waymo"

# Pedestrians and cyclists: several stand in neighbouring cells.
model.merge(dict(heads=dict(object=dict(num_classes=3, crowded_classes=(1, 2)))))
train_dataloader.dataset.merge(dict(type=Waymo, root=data_root, split="training"))
val_dataloader.dataset.merge(dict(type=Waymo, root=data_root, split="validation"))
train_dataloader.dataset.transforms.insert(0, dict(type=SquashIntensity))
val_dataloader.dataset.transforms.insert(0, dict(type=SquashIntensity))
test_dataloader = val_dataloader
val_evaluator = dict(type=WaymoMetric)
test_evaluator = val_evaluator
