# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Both heads at demonstration size on the small simulated set; all but the new head begin with the shipped weights."""

from mmengine.config import read_base

from pcperc.evaluation import MapMetric, NuScenesMetric

with read_base():
    from .._base_.datasets.nuscenes_map_demo import (
        data_root,
        data_version,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.bevfusion_joint_demo import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

test_evaluator = [dict(type=NuScenesMetric), dict(type=MapMetric)]
train_cfg.merge(dict(max_epochs=2))
optim_wrapper.optimizer.merge(dict(lr=5e-4))
load_from = "demo_weights.safetensors"
