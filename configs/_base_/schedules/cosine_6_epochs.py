# SPDX-License-Identifier: Apache-2.0
"""The published fusion stage: AdamW for 6 epochs, 500 iterations of warm-up from a third, then a cosine to 1e-3."""

from mmengine.optim import CosineAnnealingLR, LinearLR
from torch.optim import AdamW

from pcperc.engine.hooks import SafeCheckpointHook
from pcperc.engine.loop import EpochLoop
from pcperc.engine.optim_wrapper import CheckedOptimWrapper

train_cfg = dict(type=EpochLoop, max_epochs=6, val_interval=1)
optim_wrapper = dict(
    type=CheckedOptimWrapper,
    optimizer=dict(type=AdamW, lr=2e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=35),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1 / 3, by_epoch=False, begin=0, end=500),
    dict(type=CosineAnnealingLR, eta_min_ratio=1e-3, T_max=6, begin=0, end=6, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(type=SafeCheckpointHook, interval_iters=500, keep=2))
seed = 0
