# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""The demonstration model of BEVFusion on made-up scenes, read by test_resume_bevfusion.py."""

from mmengine.config import read_base

from pcperc.datasets import EpochSampler, collate
from pcperc.engine.hooks import SafeCheckpointHook
from pcperc.transforms import GlobalScaleRotateTranslate, RandomFlip3D, ResizeCropFlipRotate, ShufflePoints
from tests.engine.toy import ToyScenes

with read_base():
    from ...configs._base_.models.bevfusion_demo import model
    from ...configs._base_.schedules.one_cycle import optim_wrapper, param_scheduler, seed, train_cfg

train_dataloader = dict(
    dataset=dict(
        type=ToyScenes,
        size=8,
        transforms=[
            dict(type=ResizeCropFlipRotate, final_size=(128, 352)),
            dict(type=GlobalScaleRotateTranslate),
            dict(type=RandomFlip3D),
            dict(type=ShufflePoints),
        ],
    ),
    sampler=dict(type=EpochSampler),
    batch_size=2,
    collate_fn=dict(type=collate),
)
train_cfg.merge(dict(max_epochs=2))
default_hooks = dict(checkpoint=dict(type=SafeCheckpointHook, interval_iters=3))
