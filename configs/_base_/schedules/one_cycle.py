# SPDX-License-Identifier: Apache-2.0
"""A short run: AdamW, a linear warm-up of 20 iterations, then a cosine to nothing. An experiment sets the epochs."""

from mmengine.optim import CosineAnnealingLR, LinearLR
from torch.optim import AdamW

from pcperc.engine.hooks import SafeCheckpointHook
from pcperc.engine.loop import EpochLoop
from pcperc.engine.optim_wrapper import CheckedOptimWrapper

train_cfg = dict(type=EpochLoop, max_epochs=6)
optim_wrapper = dict(
    type=CheckedOptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=35),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type=CosineAnnealingLR, eta_min_ratio=1e-3, begin=0, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(type=SafeCheckpointHook, interval_iters=100, interval_epochs=1, keep=1))
seed = 0
