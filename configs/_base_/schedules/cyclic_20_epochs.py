# SPDX-License-Identifier: Apache-2.0
"""The published LiDAR stage: AdamW for 20 epochs, learning rate and momentum through one cosine cycle.

The rate rises to 10 times its start until 40 % of the run, then falls to 1e-4 of it; momentum falls to 0.85/0.95 of
its 0.9 and comes back.
"""

from mmengine.optim import CosineAnnealingLR, CosineAnnealingMomentum
from torch.optim import AdamW

from pcperc.engine.hooks import SafeCheckpointHook
from pcperc.engine.loop import EpochLoop
from pcperc.engine.optim_wrapper import CheckedOptimWrapper

train_cfg = dict(type=EpochLoop, max_epochs=20, val_interval=5)
optim_wrapper = dict(
    type=CheckedOptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=35),
)
param_scheduler = [
    dict(type=CosineAnnealingLR, eta_min_ratio=10.0, T_max=8, begin=0, end=8, convert_to_iter_based=True),
    dict(type=CosineAnnealingLR, eta_min_ratio=1e-4, T_max=12, begin=8, end=20, convert_to_iter_based=True),
    dict(type=CosineAnnealingMomentum, eta_min=0.9 * 0.85 / 0.95, T_max=8, begin=0, end=8, convert_to_iter_based=True),
    dict(type=CosineAnnealingMomentum, eta_min=0.9, T_max=12, begin=8, end=20, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(type=SafeCheckpointHook, interval_iters=500, keep=2))
seed = 0
