# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""The small simulated set for the demonstration: 10 scenes, three sweeps, images of 128 x 352; made where missing."""

from mmengine.config import read_base

from pcperc.datasets import EpochSampler

with read_base():
    from .nuscenes import (
        data_root,
        data_version,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
        val_cfg,
        val_dataloader,
        val_evaluator,
    )

data_root = "data/simulated/nuscenes"
data_version = "v1.0-sim"
simulation = dict(scenes=10, size="small", seed=0)

# The recorded images are 450 x 800, half of nuScenes', and so is what the network sees.
train_dataloader.dataset.merge(dict(root=data_root, version=data_version, split="sim_train", num_sweeps=2))
train_dataloader.dataset.transforms[0].merge(dict(final_size=(128, 352)))
train_dataloader.merge(
    dict(sampler=dict(_delete_=True, type=EpochSampler), batch_size=2, num_workers=1, persistent_workers=True)
)
val_dataloader.dataset.merge(dict(root=data_root, version=data_version, split="sim_val", num_sweeps=2))
val_dataloader.dataset.transforms[0].merge(dict(final_size=(128, 352)))
val_dataloader.merge(dict(num_workers=1))
test_dataloader = val_dataloader
