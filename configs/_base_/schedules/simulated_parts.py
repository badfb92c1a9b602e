# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""One schedule for the networks that are compared on simulated shapes."""

from mmengine.config import read_base

with read_base():
    from .one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

train_cfg.merge(dict(max_epochs=30))
optim_wrapper.optimizer.merge(dict(lr=2e-3))
