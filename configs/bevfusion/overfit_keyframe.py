# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""The full-size model learns one real keyframe by heart: the shortest proof that gradients reach every part.

tests/test_overfit_keyframe.py writes that keyframe as a data set and runs this on a GPU.
"""

from mmengine.config import read_base

from pcperc.datasets import EpochSampler

with read_base():
    from .._base_.datasets.nuscenes import test_cfg, test_dataloader, test_evaluator, train_dataloader
    from .._base_.models.bevfusion import model
    from .._base_.schedules.one_cycle import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

data_root = "data/nuscenes_keyframe"
data_version = "v1.0-keyframe"

# Train and test see the very same input: no augmentation, no dropped paths.
test_dataloader.dataset.merge(dict(root=data_root, version=data_version, split="keyframe_val", num_sweeps=0))
test_dataloader.merge(dict(num_workers=1))
train_dataloader.merge(
    dict(
        dataset=dict(_delete_=True, **test_dataloader.dataset),
        sampler=dict(_delete_=True, type=EpochSampler, repeats=100),
        batch_size=1,
        num_workers=2,
    )
)
train_dataloader.dataset.merge(dict(test_mode=False))
model["encoders"]["camera"]["backbone"]["drop_path"] = 0.0
train_cfg.merge(dict(max_epochs=10))
optim_wrapper.optimizer.merge(dict(lr=4e-4))
