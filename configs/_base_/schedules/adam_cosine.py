# SPDX-License-Identifier: Apache-2.0
"""The published schedule of PVCNN: Adam at 1e-3 and a cosine to nothing. An experiment sets the epochs."""

from mmengine.optim import CosineAnnealingLR
from torch.optim import Adam

from pcperc.engine.hooks import SafeCheckpointHook
from pcperc.engine.loop import EpochLoop
from pcperc.engine.optim_wrapper import CheckedOptimWrapper

train_cfg = dict(type=EpochLoop, max_epochs=250)
optim_wrapper = dict(type=CheckedOptimWrapper, optimizer=dict(type=Adam, lr=1e-3))
param_scheduler = [dict(type=CosineAnnealingLR, eta_min=0.0, begin=0)]
default_hooks = dict(checkpoint=dict(type=SafeCheckpointHook, interval_iters=500, keep=2))
seed = 0
