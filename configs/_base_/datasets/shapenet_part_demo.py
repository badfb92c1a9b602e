# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  (what a config imports becomes part of it)
"""A few simulated shapes for the demonstration, made where they are missing."""

from mmengine.config import read_base

with read_base():
    from .shapenet_part_simulated import (
        data_root,
        simulation,
        test_cfg,
        test_dataloader,
        test_evaluator,
        train_dataloader,
    )

data_root = "data/simulated/shapenet_part_demo"
simulation.merge(dict(shapes=160, size="small"))
train_dataloader.dataset.merge(dict(root=data_root))
train_dataloader.merge(dict(batch_size=8, num_workers=1))
test_dataloader.dataset.merge(dict(root=data_root))
test_dataloader.merge(dict(batch_size=4, num_workers=1))
