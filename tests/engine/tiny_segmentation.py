# SPDX-License-Identifier: Apache-2.0
"""Configs of segmentation at toy size, over the tiny SemanticKITTI root of tests/semantickitti_root.py."""

from pathlib import Path

CONFIG = """
from mmengine.optim import ConstantLR
from torch.optim import AdamW

from pcperc.datasets import EpochSampler, SemanticKITTI, collate
from pcperc.engine.hooks import SafeCheckpointHook
from pcperc.engine.loop import EpochLoop
from pcperc.engine.optim_wrapper import CheckedOptimWrapper
from pcperc.evaluation import SemanticKITTIMetric
from pcperc.models import SPVCNN, Segmentor, VoxelPreprocessor
from pcperc.models.spvnas import SPVNAS, SearchSpace, SuperSegmentor

data_root = {root!r}
train_dataloader = dict(
    dataset=dict(type=SemanticKITTI, root=data_root, split="sim_train", transforms=[]),
    sampler=dict(type=EpochSampler),
    batch_size=2,
    collate_fn=dict(type=collate),
)
test_dataloader = dict(
    dataset=dict(type=SemanticKITTI, root=data_root, split="sim_val", transforms=[], test_mode=True),
    sampler=dict(type=EpochSampler, shuffle=False),
    batch_size=1,
    collate_fn=dict(type=collate),
)
test_evaluator = dict(type=SemanticKITTIMetric)
test_cfg = dict()
train_cfg = dict(type=EpochLoop, max_epochs=2)
optim_wrapper = dict(type=CheckedOptimWrapper, optimizer=dict(type=AdamW, lr=1e-2))
default_hooks = dict(checkpoint=dict(type=SafeCheckpointHook))
seed = 0
model = dict(
    type={segmentor},
    data_preprocessor=dict(type=VoxelPreprocessor, voxel_size=2.0),
    backbone={backbone},
)
"""
SPVCNN = "dict(type=SPVCNN, num_classes=19, widths=(16, 16, 16, 16, 16, 16, 16, 16, 16))"
SPVNAS = """dict(
        type=SPVNAS,
        num_classes=19,
        space=dict(type=SearchSpace, max_widths=(16,) + (32,) * 8, min_widths=(16,) * 9, depths=(1, 2)),
    )"""


def write_spvcnn(path: Path, root: Path, more: str = "") -> Path:
    path.write_text(CONFIG.format(root=str(root), segmentor="Segmentor", backbone=SPVCNN) + more)
    return path


def write_spvnas(path: Path, root: Path) -> Path:
    path.write_text(CONFIG.format(root=str(root), segmentor="SuperSegmentor", backbone=SPVNAS))
    return path
