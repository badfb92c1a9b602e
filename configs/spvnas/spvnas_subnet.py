# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""Fine-tunes a subnet that tools/search.py found.

python tools/train.py configs/spvnas/spvnas_subnet.py --subnet FILE.json --load-from FILE.safetensors
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.semantickitti import (
        data_root,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )
    from .._base_.models.spvcnn import model
    from .._base_.schedules.sgd_15_epochs import default_hooks, optim_wrapper, param_scheduler, seed, train_cfg

subnet = None  # --subnet puts its channels and depths into model.backbone
train_cfg.merge(dict(max_epochs=5))
param_scheduler[1].merge(dict(T_max=5, end=5))
optim_wrapper.optimizer.merge(dict(lr=0.024))
