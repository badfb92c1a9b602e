# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""BEVFusion at demonstration size on the small simulated set, for a laptop.

Fine-tunes demo_weights.safetensors (made by demo_weights.py) at a rate so low that what they know from 120 scenes is
not lost to these 10. demo_from_scratch.py trains both stages from random weights.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.nuscenes_demo import (
        data_root,
        data_version,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.bevfusion_demo import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

train_cfg.merge(dict(max_epochs=2))
optim_wrapper.optimizer.merge(dict(lr=2e-5))
load_from = "demo_weights.safetensors"
