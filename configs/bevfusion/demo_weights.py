# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""How demo_weights.safetensors is made: the demonstration model trained long on many small simulated scenes.

python tools/train.py configs/bevfusion/demo_weights.py --amp, then copy the last epoch_N.safetensors of the work dir to
configs/bevfusion/demo_weights.safetensors. The scenes have another seed than those of the demonstration.
"""

from mmengine.config import read_base

from pcperc.datasets import ClassBalancedSampler

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

data_root = "data/simulated/nuscenes_demo_weights"
simulation = dict(scenes=120, size="small", seed=1)
train_dataloader.dataset.merge(dict(root=data_root))
train_dataloader.merge(dict(sampler=dict(_delete_=True, type=ClassBalancedSampler), batch_size=16, num_workers=14))
test_dataloader.dataset.merge(dict(root=data_root))
train_cfg.merge(dict(max_epochs=6))
optim_wrapper.optimizer.merge(dict(lr=2e-3))
