# SPDX-License-Identifier: Apache-2.0
"""A tiny segmentation network with all that draws by chance: mixing, turns, a cap on voxels; ``data_root`` is given."""

from mmengine.hooks import EMAHook
from torch.optim import AdamW

from pcperc.datasets import EpochSampler, SemanticKITTI, collate
from pcperc.engine.hooks import SafeCheckpointHook
from pcperc.engine.loop import EpochLoop
from pcperc.engine.optim_wrapper import CheckedOptimWrapper
from pcperc.evaluation import SemanticKITTIMetric
from pcperc.models import SPVCNN, SegmentationLoss, Segmentor, Votes, VoxelPreprocessor
from pcperc.transforms import GlobalScaleRotateTranslate, LaserMix, PolarMix, RandomChoice, RandomFlip3D

data_root = "data/simulated/semantickitti"
model = dict(
    type=Segmentor,
    data_preprocessor=dict(type=VoxelPreprocessor, voxel_size=0.25, max_voxels=50),
    backbone=dict(type=SPVCNN, in_channels=4, num_classes=19, width=0.125),
    loss=dict(type=SegmentationLoss, lovasz=1.0),
    votes=dict(type=Votes, rotations=2),
)
_mixing = [dict(type=LaserMix), dict(type=PolarMix, paste_labels=[0, 1, 2])]
train_dataloader = dict(
    dataset=dict(
        type=SemanticKITTI,
        root=data_root,
        split="sim_train",
        transforms=[
            dict(type=RandomChoice, choices=_mixing),
            dict(type=GlobalScaleRotateTranslate, rotate_range=(-3.14, 3.14), translate_std=0.0),
            dict(type=RandomFlip3D),
        ],
    ),
    sampler=dict(type=EpochSampler, repeats=3),
    batch_size=2,
    num_workers=1,
    collate_fn=dict(type=collate),
)
test_dataloader = dict(
    dataset=dict(type=SemanticKITTI, root=data_root, split="sim_val", test_mode=True),
    sampler=dict(type=EpochSampler, shuffle=False),
    batch_size=1,
    num_workers=0,
    collate_fn=dict(type=collate),
)
test_evaluator = dict(type=SemanticKITTIMetric)
train_cfg = dict(type=EpochLoop, max_epochs=4)
test_cfg = dict()
optim_wrapper = dict(type=CheckedOptimWrapper, optimizer=dict(type=AdamW, lr=1e-2))
default_hooks = dict(checkpoint=dict(type=SafeCheckpointHook, interval_iters=2, keep=2))
custom_hooks = [dict(type=EMAHook, momentum=0.1)]
seed = 3
