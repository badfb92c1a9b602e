# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""A short run on simulated scenes, the same for every network whose maps are compared on them.

Each sample 36 times: 10 times are too few at demonstration size (docs/benchmarks/bevfusion_maps.md).
"""

from mmengine.config import read_base

with read_base():
    from .one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

train_cfg.merge(dict(max_epochs=36))
optim_wrapper.optimizer.merge(dict(lr=6e-4))
