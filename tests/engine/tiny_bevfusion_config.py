# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""The demonstration recipe of BEVFusion on a tiny simulated set, with averaged weights; ``data_root`` must be given."""

from mmengine.config import read_base
from mmengine.hooks import EMAHook

with read_base():
    from ...configs._base_.datasets.nuscenes_demo import (
        data_root,
        data_version,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from ...configs._base_.models.bevfusion_demo import model
    from ...configs._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

train_dataloader.merge(dict(batch_size=1))
train_cfg.merge(dict(max_epochs=2))
default_hooks["checkpoint"].merge(dict(interval_iters=2))
custom_hooks = [dict(type=EMAHook, momentum=0.1)]
