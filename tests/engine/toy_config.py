# SPDX-License-Identifier: Apache-2.0
"""A config of the toy model, read by the tests of the engine."""

from mmengine.hooks import EMAHook
from mmengine.optim import CosineAnnealingLR, LinearLR
from torch.optim import AdamW

from pcperc.datasets.sampling import EpochSampler
from pcperc.engine.hooks import SafeCheckpointHook
from pcperc.engine.loop import EpochLoop
from pcperc.engine.optim_wrapper import CheckedOptimWrapper
from tests.engine.toy import ToyDataset, ToyMetric, ToyModel, toy_collate

model = dict(type=ToyModel, width=8)
train_dataloader = dict(
    dataset=dict(type=ToyDataset, size=40),
    sampler=dict(type=EpochSampler),
    batch_size=4,
    num_workers=0,
    collate_fn=dict(type=toy_collate),
)
val_dataloader = dict(
    dataset=dict(type=ToyDataset, size=8),
    sampler=dict(type=EpochSampler, shuffle=False),
    batch_size=4,
    num_workers=0,
    collate_fn=dict(type=toy_collate),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=ToyMetric)
test_evaluator = val_evaluator
train_cfg = dict(type=EpochLoop, max_epochs=3)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type=CheckedOptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-2, weight_decay=0.01),
    clip_grad=dict(max_norm=35),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1 / 3, by_epoch=False, begin=0, end=5),
    dict(type=CosineAnnealingLR, T_max=3, eta_min_ratio=1e-3, begin=0, end=3, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(type=SafeCheckpointHook, interval_iters=4, keep=2))
custom_hooks = [dict(type=EMAHook, momentum=0.1)]
seed = 3
