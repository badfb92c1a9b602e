# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""F-PVCNN of KITTI's object benchmark: 3.358M parameters; published 3D AP of moderate cars 72.12 on val.

Trained on frustums of the labelled 2D boxes. Published scores are of a detector's 2D boxes: tools/test.py --detections
FILE.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.kitti_frustums import data_root, test_cfg, test_dataloader, test_evaluator, train_dataloader
    from .._base_.models.frustum_pvcnn import model
    from .._base_.schedules.adam_cosine import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

train_cfg.merge(dict(max_epochs=209))
profiles = dict(demo="kitti_frustum_demo.py")
