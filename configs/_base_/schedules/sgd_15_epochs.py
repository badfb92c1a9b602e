# SPDX-License-Identifier: Apache-2.0
"""The published recipe of SPVNAS: SGD for 15 epochs, a linear warm-up, a cosine to nothing, half precision.

The rate is for 8 GPUs with 2 scans each, and so is the warm-up of 125 iterations.
"""

from mmengine.optim import CosineAnnealingLR, LinearLR
from torch.optim import SGD

from pcperc.engine.hooks import SafeCheckpointHook
from pcperc.engine.loop import EpochLoop
from pcperc.engine.optim_wrapper import CheckedOptimWrapper

train_cfg = dict(type=EpochLoop, max_epochs=15)
optim_wrapper = dict(
    type=CheckedOptimWrapper,
    optimizer=dict(type=SGD, lr=0.24, momentum=0.9, nesterov=True, weight_decay=1e-4),
    amp=True,
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-3, by_epoch=False, begin=0, end=125),
    dict(type=CosineAnnealingLR, eta_min=0.0, T_max=15, begin=0, end=15, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(type=SafeCheckpointHook, interval_iters=500, keep=2))
seed = 0
